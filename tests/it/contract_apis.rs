//! Section 9: APIs, managed as `wsk api` does, and called.

use serde_json::{Value, json};

use crate::harness::{ECHO, Reply, Request, Server, Tenant, shared};

const MANAGEMENT: &str = "/api/v1/web/whisk.system/apimgmt";

impl Tenant {
    /// What `wsk api create BASE PATH METHOD ACTION --response-type TYPE` sends.
    #[track_caller]
    fn create_api(&self, base: &str, path: &str, method: &str, kind: &str) -> Reply {
        let address = self.client.address;
        let query = format!("accesstoken=DUMMY%20TOKEN&responsetype={kind}&spaceguid=x");
        let url = format!("http://{address}/api/v1/web/_/default/a.{kind}");
        let parameters = path.contains('{').then(|| {
            json!([{"name": "id", "in": "path",
            "description": "d", "required": true, "type": "string"}])
        });
        let body = json!({"apidoc": {
            "namespace": "_", "gatewayBasePath": base, "gatewayPath": path,
            "gatewayMethod": method, "id": format!("API:_:{base}"), "apiName": "",
            "action": {"name": "a", "namespace": "_", "backendMethod": method,
                "backendUrl": url, "authkey": self.key, "secureKey": "s3cret"},
            "pathParameters": parameters,
        }});
        let path = format!("{MANAGEMENT}/createApi.http?{query}");
        self.client
            .send(&Request::new("POST", &path).key(&self.key).json(&body))
    }

    #[track_caller]
    fn manage(&self, method: &str, what: &str) -> Reply {
        let path = format!("{MANAGEMENT}/{what}");
        self.client
            .send(&Request::new(method, &path).key(&self.key))
    }
}

/// The path of an absolute URL.
fn path_of(url: &Value) -> String {
    let url = url.as_str().expect("a string");
    let (_, rest) = url.split_once("://").expect("absolute");
    let path = rest.split_once('/');
    path.map_or_else(String::new, |(_, path)| format!("/{path}"))
}

#[test]
fn an_api_leads_to_its_action_until_it_is_deleted() {
    let tenant = shared().tenant();
    tenant.put_web("a", ECHO, &[("require-whisk-auth", json!("s3cret"))]);
    tenant
        .create_api("/club", "/books/{id}", "get", "http")
        .expect(200);
    tenant
        .create_api("/club", "/books", "post", "json")
        .expect(200);
    let made = tenant.create_api("/club", "/books/{id}", "delete", "json");
    let made = made.expect(200).json();
    let base = path_of(&made["gwApiUrl"]);
    assert_eq!(made["tenantId"].as_str().map(str::len), Some(36));
    let call = |method: &str, path: &str| {
        let request = Request::new(method, &format!("{base}{path}"));
        tenant.client.send(&request)
    };
    let got = call("POST", "/books?q=1").expect(200).json();
    assert_eq!((&got["q"], &got["__ow_path"]), (&json!("1"), &json!("")));
    let answer = r#"{"statusCode":203,"body":{"seen":true}}"#;
    let request = Request::new("GET", &format!("{base}/books/978?q=2"));
    let got = tenant.client.send(&request.raw("application/json", answer));
    assert_eq!(got.expect(203).json(), json!({"seen": true}));
    let got = call("DELETE", "/books/978").expect(200).json();
    assert_eq!(got["__ow_method"], "delete");
    call("PUT", "/books").expect(405);
    let missing = call("GET", "/nothing").expect(404);
    assert_eq!(
        missing.error(),
        "The requested resource could not be found."
    );
    let preflight = call("OPTIONS", "/books").expect(200);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let listed = tenant
        .manage("GET", "getApi.http?basepath=/club")
        .expect(200)
        .json();
    let doc = &listed["apis"][0]["value"]["apidoc"];
    assert_eq!(
        doc["paths"]["/books/{id}"]["get"]["operationId"],
        "getBooksId"
    );
    assert_eq!(doc["paths"]["/books"]["post"]["x-openwhisk"]["action"], "a");
    tenant
        .manage(
            "DELETE",
            "deleteApi.http?basepath=/club&relpath=/books&operation=post",
        )
        .expect(200);
    call("POST", "/books").expect(404);
    call("DELETE", "/books/978").expect(200);
    let gone = tenant
        .manage("DELETE", "deleteApi.http?basepath=/club&force=true")
        .expect(200);
    assert_eq!(gone.json(), json!({}));
    call("DELETE", "/books/978").expect(404);
    let reply = tenant
        .manage("DELETE", "deleteApi.http?basepath=/club")
        .expect(502);
    assert_eq!(
        reply.json(),
        json!({"error": "API deletion failure: API '/club' does not exist."})
    );
}

#[test]
fn the_path_of_the_request_reaches_the_action() {
    let tenant = shared().tenant();
    tenant.put_web("a", ECHO, &[]);
    let made = tenant
        .create_api("/club", "/books/{id}", "get", "http")
        .expect(200)
        .json();
    let mut document = made["apidoc"].clone();
    let case = &mut document["x-ibm-configuration"]["assembly"]["execute"][0]["operation-switch"]["case"]
        [0];
    let url = case["execute"][0]["invoke"]["target-url"]
        .as_str()
        .expect("a URL");
    assert!(url.ends_with("/default/a.http$(request.path)"), "{url}");
    // The same, as JSON, so that the action shows what it was given: what a user does who edits an exported document.
    case["execute"][0]["invoke"]["target-url"] = json!(url.replace(".http$", ".json$"));
    let body = json!({"apidoc": {"namespace": "_", "swagger": document.to_string()}});
    let path = format!("{MANAGEMENT}/createApi.http");
    let upload = Request::new("POST", &path).key(&tenant.key).json(&body);
    let made = tenant.client.send(&upload).expect(200).json();
    let base = path_of(&made["gwApiUrl"]);
    let got = tenant
        .client
        .get(&format!("{base}/books/%C3%A9%2F1?q=2"))
        .expect(200)
        .json();
    assert_eq!(got["__ow_path"], "/club/books/%C3%A9%2F1");
    assert_eq!(got["q"], "2");
}

#[test]
fn tenants_see_their_own_apis_alone() {
    let (tenant, other) = (shared().tenant(), shared().tenant());
    tenant.put_web("a", ECHO, &[]);
    let made = tenant
        .create_api("/own", "/r", "get", "json")
        .expect(200)
        .json();
    let listed = other.manage("GET", "getApi.http").expect(200);
    assert_eq!(listed.json(), json!({"apis": []}));
    other
        .manage("DELETE", "deleteApi.http?basepath=/own")
        .expect(502);
    let url = path_of(&made["gwApiUrl"]);
    tenant.client.get(&format!("{url}/r")).expect(200);
    let anonymous = tenant
        .client
        .get(&format!("{MANAGEMENT}/getApi.http"))
        .expect(401);
    let text = "Authentication is possible but has failed or not yet been provided.";
    assert_eq!(anonymous.error(), text);
}

#[test]
fn swagger_that_is_none_is_refused() {
    let tenant = shared().tenant();
    let send = |swagger: Value| {
        let body = json!({"apidoc": {"namespace": "_", "swagger": swagger}});
        let path = format!("{MANAGEMENT}/createApi.http");
        tenant
            .client
            .send(&Request::new("POST", &path).key(&tenant.key).json(&body))
    };
    for (swagger, error) in [
        (
            json!("no"),
            "swagger field cannot be parsed. Ensure it is valid JSON.",
        ),
        (json!("[]"), "swagger is missing the basePath field."),
        (
            json!({"basePath": "/b", "info": {}}),
            "swagger is missing the paths field.",
        ),
        (
            json!({"basePath": "/b", "info": {}, "paths": {"x": {}}}),
            "API creation failure: path 'x' must start with '/' and have neither spaces, '?' nor '#'",
        ),
        (
            json!({"basePath": "/b", "info": {}, "paths": {"/x": {"get": {}}}}),
            "API creation failure: operation 'get /x' has no 'target-url'",
        ),
    ] {
        let reply = send(swagger).expect(502);
        assert_eq!(reply.json(), json!({ "error": error }));
    }
    let raw = Request::new("POST", &format!("{MANAGEMENT}/createApi.http")).key(&tenant.key);
    tenant
        .client
        .send(&raw.raw("application/json", "{"))
        .expect(400);
}

#[test]
fn apis_outlive_the_server() {
    let server = Server::start("");
    let tenant = server.tenant();
    tenant.put_web("a", ECHO, &[]);
    let made = tenant
        .create_api("/b", "/r", "get", "json")
        .expect(200)
        .json();
    let path = format!("{}/r", path_of(&made["gwApiUrl"]));
    server.client().get(&path).expect(200);
    let server = server.crash_and_restart();
    server.client().get(&path).expect(200);
}
