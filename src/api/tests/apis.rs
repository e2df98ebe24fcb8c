//! APIs: managed as `wsk api` does, and served.

use super::web::at;
use super::*;

pub(super) const UUID: &str = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502";
pub(super) const DENIED: &str =
    "Authentication is possible but has failed or not yet been provided.";

/// What `wsk api create` sends.
pub(super) fn endpoint(base: &str, path: &str, method: &str) -> Value {
    json!({"apidoc": {
        "namespace": "_", "gatewayBasePath": base, "gatewayPath": path, "gatewayMethod": method,
        "id": format!("API:_:{base}"),
        "action": {"name": "a", "namespace": "_", "backendMethod": method,
            "backendUrl": "https://host/api/v1/web/_/default/a.http", "authkey": "u:k"},
    }})
}

impl Site {
    pub(super) async fn managed(&self, what: &str, body: &Value) -> Got {
        let method = if what.starts_with("create") {
            "POST"
        } else {
            "GET"
        };
        let path = format!("/api/v1/web/whisk.system/apimgmt/{what}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(WELL_KNOWN_GUEST, method, &path, body).await
    }

    pub(super) async fn with_api(self, base: &str, path: &str, method: &str) -> Self {
        let asked = endpoint(base, path, method);
        let made = self.managed("createApi?responsetype=http", &asked).await;
        made.is(200);
        self
    }

    async fn api_documents(&self) -> Vec<Value> {
        let got = self.managed("getApi", &Value::Null).await.is(200).json();
        got["apis"].as_array().expect("an array").clone()
    }

    pub(super) async fn call_api(&self, method: &str, path: &str) -> Got {
        let path = format!("/api/{UUID}{path}");
        self.send(bare(method, &path)).await
    }

    /// The path that the action was given, when it was run.
    pub(super) async fn path_of(&self, method: &str, path: &str) -> Option<String> {
        let before = self.invoker.asked.lock().len();
        self.call_api(method, path).await;
        let asked = self.invoker.asked.lock();
        let (_, call) = asked.get(before)?;
        let given = call.payload.to_value();
        Some(
            given["__ow_path"]
                .as_str()
                .expect("always there")
                .to_owned(),
        )
    }
}

#[track_caller]
fn says(got: &Got, error: &str) {
    assert_eq!(got.is(502).json(), json!({ "error": error }));
    assert_eq!(got.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn nobody_manages_apis_without_a_key() {
    let site = Site::new().await;
    for what in [
        "createApi",
        "createApi.http",
        "getApi.http",
        "deleteApi",
        "deleteApi.http",
    ] {
        let request = at("GET", &format!("whisk.system/apimgmt/{what}"));
        let got = site.send(request.body(Body::empty()).expect("legal")).await;
        assert_eq!(got.is(401).json()["error"], DENIED, "{what}");
        let request = at("GET", &format!("whisk.system/apimgmt/{what}"))
            .header("authorization", basic(&WELL_KNOWN_GUEST.replace('1', "2")));
        site.send(request.body(Body::empty()).expect("legal"))
            .await
            .is(401);
        let request = at("OPTIONS", &format!("whisk.system/apimgmt/{what}"));
        site.send(request.body(Body::empty()).expect("legal"))
            .await
            .is(200);
    }
    let request = at("GET", "whisk.system/apimgmt/otherApi");
    site.send(request.body(Body::empty()).expect("legal"))
        .await
        .is(404);
}

#[tokio::test]
async fn an_endpoint_becomes_the_document_that_clients_read() {
    let site = Site::new().await;
    let mut asked = endpoint("/base", "/rel/{id}", "GET");
    asked["apidoc"]["action"]["name"] = json!("/guest/pkg/a");
    asked["apidoc"]["action"]["secureKey"] = json!("s3cret");
    asked["apidoc"]["apiName"] = json!("Mine");
    asked["apidoc"]["pathParameters"] = json!([{"name": "id", "in": "path"}]);
    let request = at(
        "POST",
        "whisk.system/apimgmt/createApi.http?accesstoken=DUMMY+TOKEN&responsetype=http&spaceguid=x",
    )
    .header("authorization", basic(WELL_KNOWN_GUEST))
    .header("content-type", "application/json")
    .header("host", "api.example:8080")
    .header("x-forwarded-proto", "https")
    .body(Body::from(asked.to_string()));
    let got = site.send(request.expect("legal")).await;
    let url = "https://host/api/v1/web/guest/pkg/a.http";
    let apidoc = json!({
        "swagger": "2.0",
        "info": {"title": "Mine", "version": "1.0.0"},
        "basePath": "/base",
        "paths": {"/rel/{id}": {"get": {
            "operationId": "getRelId",
            "parameters": [{"name": "id", "in": "path"}],
            "x-openwhisk": {"url": url, "namespace": "guest", "package": "pkg", "action": "a"},
            "responses": {"default": {"description": "Default response"}},
        }}},
        "x-ibm-configuration": {
            "assembly": {"execute": [{"operation-switch": {"case": [{
                "operations": ["getRelId"],
                "execute": [
                    {"invoke": {"target-url": format!("{url}$(request.path)"), "verb": "keep"}},
                    {"set-variable": {"actions": [
                        {"set": "message.headers.X-Require-Whisk-Auth", "value": "s3cret"},
                    ]}},
                ],
            }]}}]},
            "cors": {"enabled": true},
        },
    });
    let value = json!({
        "namespace": "guest", "gwApiActivated": true, "tenantId": UUID, "apidoc": apidoc,
        "gwApiUrl": format!("https://api.example:8080/api/{UUID}/base"),
    });
    assert_eq!(got.is(200).json(), value);
    let got = site
        .managed("getApi.http?basepath=/base", &Value::Null)
        .await;
    let row = got.is(200).json()["apis"][0].clone();
    assert_eq!(row["id"], "API:guest:/base");
    assert_eq!(row["key"], "API:guest:/base");
    assert_eq!(row["value"]["apidoc"], apidoc);
    let url = format!("http://localhost/api/{UUID}/base");
    assert_eq!(row["value"]["gwApiUrl"], url, "as it was reached this time");
}

#[tokio::test]
async fn apis_are_listed_by_base_path_title_and_page() {
    let site = Site::new().await.with_api("/a", "/x", "get").await;
    let site = site
        .with_api("/b", "/x", "get")
        .await
        .with_api("/c", "/x", "get")
        .await;
    for (query, bases) in [
        ("", &["/a", "/b", "/c"][..]),
        ("?basepath=/b", &["/b"]),
        ("?basepath=/none", &[]),
        ("?basepath=none", &[]),
        ("?limit=1&skip=1", &["/b"]),
        ("?limit=0", &["/a", "/b", "/c"]),
    ] {
        let got = site
            .managed(&format!("getApi{query}"), &Value::Null)
            .await
            .is(200)
            .json();
        let apis = got["apis"].as_array().expect("an array");
        let found: Vec<_> = apis
            .iter()
            .map(|api| &api["value"]["apidoc"]["basePath"])
            .collect();
        assert_eq!(found, bases, "{query}");
    }
    says(
        &site.managed("getApi?limit=x", &Value::Null).await,
        "limit 'x' is not a number.",
    );
    let bad = "Invalid outputFormat value. Valid values are: apigw, swagger";
    says(
        &site.managed("getApi?outputFormat=x", &Value::Null).await,
        bad,
    );
    let got = site.call(
        WELL_KNOWN_SYSTEM,
        "GET",
        "/api/v1/web/whisk.system/apimgmt/getApi",
        "",
    );
    assert_eq!(
        got.await.is(200).json(),
        json!({"apis": []}),
        "they are guest's"
    );
}

#[tokio::test]
async fn what_is_missing_is_said_in_the_words_of_the_action() {
    let site = Site::new().await;
    let without = |path: &[&str]| {
        let mut asked = endpoint("/b", "/r", "get");
        let (last, parents) = path.split_last().expect("a path");
        let parent = parents
            .iter()
            .fold(&mut asked, |parent, key| &mut parent[*key]);
        parent.as_object_mut().expect("an object").remove(*last);
        asked
    };
    for (path, error) in [
        (&["apidoc"][..], "apidoc is required."),
        (
            &["apidoc", "namespace"],
            "apidoc is missing the namespace field",
        ),
        (
            &["apidoc", "gatewayBasePath"],
            "apidoc is missing the gatewayBasePath field",
        ),
        (
            &["apidoc", "gatewayPath"],
            "apidoc is missing the gatewayPath field",
        ),
        (
            &["apidoc", "gatewayMethod"],
            "apidoc is missing the gatewayMethod field",
        ),
        (&["apidoc", "action"], "apidoc is missing the action field."),
        (
            &["apidoc", "action", "backendMethod"],
            "action is missing the backendMethod field.",
        ),
        (
            &["apidoc", "action", "backendUrl"],
            "action is missing the backendUrl field.",
        ),
        (
            &["apidoc", "action", "namespace"],
            "action is missing the namespace field.",
        ),
        (
            &["apidoc", "action", "name"],
            "action is missing the name field.",
        ),
        (
            &["apidoc", "action", "authkey"],
            "action is missing the authkey field.",
        ),
    ] {
        says(&site.managed("createApi", &without(path)).await, error);
    }
    assert!(site.api_documents().await.is_empty());
}

#[tokio::test]
async fn what_is_no_document_is_said_in_the_words_of_the_action() {
    let site = Site::new().await;
    for (asked, error) in [
        (
            json!({"apidoc": "{"}),
            "apidoc field cannot be parsed. Ensure it is valid JSON.",
        ),
        (
            json!({"apidoc": 7}),
            "apidoc field is of type number and should be a JSON object or a JSON string.",
        ),
        (
            json!({"apidoc": []}),
            "apidoc is missing the namespace field",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": "{"}}),
            "swagger field cannot be parsed. Ensure it is valid JSON.",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": 7}}),
            "swagger field is number and should be an object or a JSON string.",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": "{}"}}),
            "swagger is missing the basePath field.",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": {"basePath": "/b"}}}),
            "swagger is missing the paths field.",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": {"basePath": "/b", "paths": {}}}}),
            "swagger is missing the info field.",
        ),
        (
            json!({"apidoc": {"namespace": "_", "swagger": "{}", "gatewayBasePath": "/b"}}),
            "swagger and gatewayBasePath are mutually exclusive and cannot be specified together.",
        ),
    ] {
        says(&site.managed("createApi", &asked).await, error);
    }
    assert!(site.api_documents().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_served_is_not_taken() {
    let site = Site::new().await;
    for (path, value) in [
        (&["gatewayBasePath"][..], json!("b")),
        (&["gatewayBasePath"], json!("/b/{x}")),
        (&["gatewayBasePath"], json!("/b?")),
        (&["gatewayPath"], json!("r")),
        (&["gatewayPath"], json!("/r r")),
        (&["gatewayMethod"], json!("trace")),
        (&["gatewayMethod"], json!(7)),
        (
            &["action", "backendUrl"],
            json!("https://elsewhere.example/x"),
        ),
        (&["action", "name"], json!("/guest/p/$$")),
        (&["action", "secureKey"], json!("a\r\nb")),
    ] {
        let mut asked = endpoint("/b", "/r", "get");
        let target = path
            .iter()
            .fold(&mut asked["apidoc"], |parent, key| &mut parent[*key]);
        *target = value;
        let got = site.managed("createApi", &asked).await;
        let error = got.is(502).json()["error"].clone();
        assert!(
            error
                .as_str()
                .is_some_and(|text| text.starts_with("API creation failure: ")),
            "{path:?} {error}"
        );
    }
    let says_so = site
        .managed("createApi?responsetype=pdf", &endpoint("/b", "/r", "get"))
        .await;
    says(
        &says_so,
        "API creation failure: response type 'pdf' is none of http, json, html, svg, text.",
    );
    let invoke = |url: &str| json!({"assembly": {"execute": [{"invoke": {"target-url": url}}]}});
    let swagger = |more: Value| {
        let mut swagger = json!({"basePath": "/b", "info": {}, "paths": {"/r": {"get": {}}}});
        let all = swagger.as_object_mut().expect("an object");
        all.extend(more.as_object().expect("an object").clone());
        json!({"apidoc": {"namespace": "_", "swagger": swagger}})
    };
    for more in [
        json!({}),
        json!({"x-ibm-configuration": invoke("https://elsewhere.example/")}),
        json!({"x-ibm-configuration": invoke("https://h/api/v1/web/g/p/a"), "securityDefinitions": {"k": {}}}),
        json!({"x-ibm-configuration": 7}),
        json!({"basePath": 7}),
        json!({"paths": [1]}),
        json!({"paths": {"/r": 7}}),
    ] {
        let got = site.managed("createApi", &swagger(more.clone())).await;
        let error = got.is(502).json()["error"].clone();
        assert!(
            error
                .as_str()
                .is_some_and(|text| text.starts_with("API creation failure: ")),
            "{more} {error}"
        );
    }
    let fine = swagger(json!({"x-ibm-configuration": invoke("https://h/api/v1/web/g/p/a")}));
    site.managed("createApi", &fine).await.is(200);
    site.managed("createApi", &json!([])).await.is(400);
}

#[tokio::test]
async fn endpoints_go_one_by_one_and_the_last_takes_the_api_along() {
    let site = Site::new().await.with_api("/b", "/r", "get").await;
    let site = site
        .with_api("/b", "/r", "POST")
        .await
        .with_api("/b", "/s", "get")
        .await;
    for (query, error) in [
        ("", "basepath is required."),
        (
            "?basepath=/b&operation=get",
            "When specifying an operation, the path is required.",
        ),
        (
            "?basepath=/none",
            "API deletion failure: API '/none' does not exist.",
        ),
        (
            "?basepath=none",
            "API deletion failure: API 'none' does not exist.",
        ),
        (
            "?basepath=/b&relpath=/x",
            "API deletion failure: path '/x' does not exist in the API",
        ),
        (
            "?basepath=/b&relpath=/s&operation=put",
            "API deletion failure: path '/s' with operation 'put' does not exist in the API",
        ),
    ] {
        says(
            &site
                .managed(&format!("deleteApi{query}"), &Value::Null)
                .await,
            error,
        );
    }
    let left = async |query: &str| {
        let path = format!("deleteApi?basepath=/b{query}&force=true");
        assert_eq!(
            site.managed(&path, &Value::Null).await.is(200).json(),
            json!({})
        );
        let got = site.managed("getApi", &Value::Null).await.json();
        let doc = &got["apis"][0]["value"]["apidoc"];
        let cases = &doc["x-ibm-configuration"]["assembly"]["execute"][0]["operation-switch"];
        let paths = doc["paths"]
            .as_object()
            .map(|paths| paths.keys().cloned().collect::<Vec<_>>());
        (paths, cases["case"].as_array().map_or(0, Vec::len))
    };
    let both = vec!["/r".to_owned(), "/s".to_owned()];
    assert_eq!(left("&relpath=/r&operation=GET").await, (Some(both), 2));
    assert_eq!(left("&relpath=/r").await, (Some(vec!["/s".to_owned()]), 1));
    assert_eq!(left("&relpath=/s&operation=get").await, (None, 0));
    let site = Site::new().await.with_api("/b", "/r", "get").await;
    site.managed("deleteApi?basepath=/b", &Value::Null)
        .await
        .is(200);
    assert_eq!(
        site.managed("getApi", &Value::Null).await.json(),
        json!({"apis": []})
    );
}

#[tokio::test]
async fn a_namespace_has_so_many_apis_of_such_a_size() {
    let config = Config {
        apis_max: 2,
        api_bytes_max: 1000,
        ..Config::default()
    };
    let site = Site::with(EffectiveLimits::default(), config).await;
    let site = site
        .with_api("/a", "/r", "get")
        .await
        .with_api("/b", "/r", "get")
        .await;
    let why = "API creation failure: a namespace can have 2 APIs, delete one first.";
    says(
        &site
            .managed("createApi", &endpoint("/c", "/r", "get"))
            .await,
        why,
    );
    let long = format!("/{}", "r".repeat(200));
    let got = site
        .managed("createApi", &endpoint("/b", &long, "get"))
        .await;
    let error = got.is(502).json()["error"].clone();
    assert!(
        error
            .as_str()
            .is_some_and(|text| text.contains("larger than allowed")),
        "{error}"
    );
}
