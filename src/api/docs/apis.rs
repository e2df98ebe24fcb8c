//! Operations on APIs: paths of a tenant's own choosing that lead to its web actions.

use super::faults::{CONCURRENT, STORED, THROTTLED, WITH_BODY};
use super::operation::{Access, Operation, schema};
use super::parameters::{
    API_BASE, API_LIMIT, API_METHOD, API_NAME, API_NAME_REQUIRED, API_PATH, API_TENANT,
    RESPONSE_TYPE, SKIP,
};
use super::refusals::{GATEWAY, MANAGED, WEB};

const APIS: &str = "APIs";

const CREATE: &str = "/api/v1/web/whisk.system/apimgmt/createApi";
const GET: &str = "/api/v1/web/whisk.system/apimgmt/getApi";
const DELETE: &str = "/api/v1/web/whisk.system/apimgmt/deleteApi";
const AN_API: &str = "/api/{tenant}/{base}";

/// Methods of the paths of APIs, and the ids of their operations.
const METHODS: [(&str, &str); 7] = [
    ("GET", "apiGet"),
    ("PUT", "apiPut"),
    ("POST", "apiPost"),
    ("DELETE", "apiDelete"),
    ("PATCH", "apiPatch"),
    ("HEAD", "apiHead"),
    ("OPTIONS", "apiOptions"),
];

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let manage = |method_and_path, id, summary| {
        Operation::new(method_and_path, APIS, id, summary)
            .details(
                "The path may end in `.http` or `.json`. Parameters may stand in the query or in a JSON body, which is \
                 over it. Refusals are those of OpenWhisk's own actions for it: 502 and `error`, without a code.",
            )
            .answers(502, "It is not done.", schema("Failure"))
            .refuses(MANAGED)
            .refuses(&WITH_BODY[..3])
            .refuses(STORED)
    };
    let mut all = vec![
        manage(
            ("POST", CREATE),
            "createApi",
            "Makes an API, or adds an operation to one.",
        )
        .takes(&[&RESPONSE_TYPE])
        .needs("What is to be made.", schema("ApiPut"))
        .answers(200, "The API as it is now.", schema("ManagedApi"))
        .refuses(&[CONCURRENT]),
        manage(
            ("GET", GET),
            "getApis",
            "Lists the APIs of the key's namespace.",
        )
        .takes(&[&API_NAME, &API_LIMIT, &SKIP])
        .answers(200, "The APIs.", schema("ApiList")),
        manage(
            ("DELETE", DELETE),
            "deleteApi",
            "Deletes an API, or a part of it.",
        )
        .takes(&[&API_NAME_REQUIRED, &API_PATH, &API_METHOD])
        .answers(200, "It is gone.", schema("Empty"))
        .refuses(&[CONCURRENT]),
    ];
    all.extend(METHODS.iter().map(served));
    all
}

fn served((method, id): &(&'static str, &'static str)) -> Operation {
    let summary = "Runs the web action that an API leads to.";
    Operation::new((method, AN_API), APIS, id, summary)
        .access(Access::Anyone)
        .details("More segments may follow in the path. What the action gets and answers is what a web action does.")
        .takes(&[&API_TENANT, &API_BASE])
        .answers_anything("What the action answers.")
        .refuses(GATEWAY)
        .refuses(WEB)
        .refuses(&WITH_BODY[..3])
        .refuses(THROTTLED)
        .refuses(STORED)
}
