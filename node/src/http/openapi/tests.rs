use actix_web::{
    App,
    http::StatusCode,
    test::{TestRequest, call_service, init_service, read_body},
};
use serde_json::Value;

use super::*;

fn value() -> Value {
    serde_json::from_str(&document().to_json().unwrap()).unwrap()
}

/// Calls `visit` with every object's key and text value, at every depth.
fn texts<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a str)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Value::String(text) = value {
                    visit(key, text);
                }
                texts(value, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = value();
    let mut references = 0;
    texts(&document, &mut |key, text| {
        if key == "$ref" {
            references += 1;
            let pointer = text.strip_prefix('#').expect(text);
            assert!(document.pointer(pointer).is_some(), "{text}");
        }
    });
    assert!(references > 50, "{references}");
}

#[test]
fn says_who_may_call_and_what_goes_wrong() {
    let document = value();
    assert_eq!(document["openapi"], "3.1.0");
    let sales = &document["paths"]["/stores/{store_id}/sales"]["get"];
    assert_eq!(sales["security"].as_array().unwrap().len(), 3);
    assert_eq!(sales["responses"]["404"]["$ref"], "#/components/responses/Problem");
    let actors = &document["paths"]["/admin/actors"]["get"];
    assert_eq!(actors["security"], serde_json::json!([{"admin_key": []}]));
    assert_eq!(document["paths"]["/ping"]["get"]["security"], serde_json::json!([]));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
    }
}

#[test]
fn operation_ids_are_unique() {
    let document = value();
    let mut ids = Vec::new();
    texts(&document, &mut |key, text| {
        if key == "operationId" {
            ids.push(text);
        }
    });
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn sales_carry_the_columns_with_decimals_as_texts() {
    let document = value();
    let sale = &document["components"]["schemas"]["SaleRow"]["properties"];
    assert_eq!(sale["total_usd"]["type"], serde_json::json!(["string", "null"]));
    assert_eq!(sale["sold_at"]["format"], "date-time");
    assert_eq!(sale["items"]["items"]["$ref"], "#/components/schemas/SaleItemRow");
    assert!(sale.get("registers").is_none());
}

async fn get(path: &str) -> (StatusCode, header::HeaderMap, String) {
    let app = init_service(App::new().configure(configure)).await;
    let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_body(answer).await;
    (status, headers, String::from_utf8_lossy(&body).into_owned())
}

#[actix_web::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let (status, headers, index) = get("/docs/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers.get(header::CONTENT_SECURITY_POLICY).unwrap(), DOCS_POLICY);
    for attribute in ["src=\"", "href=\""] {
        for link in index.split(attribute).skip(1) {
            assert!(!link.starts_with("http") && !link.starts_with("//"), "{link}");
        }
    }
    let (_, _, start) = get("/docs/swagger-initializer.js").await;
    assert!(start.contains("../openapi.json") && start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert!(!start.contains("http"), "{start}");
}

#[actix_web::test]
async fn routes() {
    let (status, headers, body) = get("/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), "application/json");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), value());
    let (status, headers, _) = get("/docs").await;
    assert_eq!(status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(headers.get(header::LOCATION).unwrap(), "docs/");
    assert_eq!(get("/docs/nothing").await.0, StatusCode::NOT_FOUND);
}
