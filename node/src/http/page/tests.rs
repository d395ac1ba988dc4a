use actix_web::{ResponseError, http::StatusCode};
use velox_store::{StockKey, TimeKey};

use super::*;

const SHOP: Scope = Scope { list: "sales", store_id: Uuid::from_u128(1) };

fn key() -> TimeKey {
    TimeKey { at: DateTime::from_timestamp_millis(1_763_950_000_123).unwrap(), id: Uuid::from_u128(2) }
}

fn is_400<T: std::fmt::Debug>(result: Result<T, Problem>) -> bool {
    result.is_err_and(|problem| problem.status_code() == StatusCode::BAD_REQUEST)
}

#[test]
fn a_cursor_leads_back_to_its_own_list_alone() {
    let cursor = SHOP.cursor(key());
    assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{cursor}");
    assert_eq!(SHOP.request::<TimeKey>(None, Some(&cursor)).unwrap().after, Some(key()));
    for other in [Scope { list: "debts", ..SHOP }, Scope { store_id: Uuid::from_u128(3), ..SHOP }] {
        assert!(is_400(other.request::<TimeKey>(None, Some(&cursor))), "{other:?}");
    }
    assert!(is_400(SHOP.request::<StockKey>(None, Some(&cursor))));
}

#[test]
fn garbage_cursors_are_refused() {
    let cursor = SHOP.cursor(key());
    let nulls = "A".repeat(MAX_CURSOR + 1);
    let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let id = Uuid::from_u128(1);
    let late =
        encode(&format!(r#"{{"list":"sales","store_id":"{id}","after":[9223372036854775807,"{id}"]}}"#));
    let more = encode(&format!(r#"{{"list":"sales","store_id":"{id}","after":[1,"{id}"],"x":1}}"#));
    let cut = &cursor[..cursor.len() - 3];
    let padded = format!("{cursor}=");
    for bad in ["", "x", "%00", "null", "e30", cut, &padded, &nulls, &late, &more] {
        assert!(is_400(SHOP.request::<TimeKey>(None, Some(bad))), "{bad}");
    }
}

#[test]
fn limits() {
    let limit = |text| SHOP.request::<TimeKey>(text, None).map(|request| request.limit);
    assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
    assert_eq!(limit(Some("1")).unwrap(), 1);
    assert_eq!(limit(Some("1000")).unwrap(), MAX_LIMIT);
    for bad in ["", "0", "-1", "+5", "1001", "1e2", "5.0", " 5", "ten", "99999999999999999999", "٣"] {
        assert!(is_400(limit(Some(bad))), "{bad}");
    }
}

#[test]
fn ids_have_one_form() {
    let id = "0193c9a0-1b2c-7d3e-8f40-0123456789ab";
    assert!(query_id(Some(id)).unwrap().is_some());
    assert_eq!(query_id(Some(id)).unwrap(), query_id(Some(&id.to_uppercase())).unwrap());
    for bad in ["", "x", "{0193c9a0-1b2c-7d3e-8f40-0123456789ab}", "0193c9a01b2c7d3e8f400123456789ab"] {
        assert!(is_400(query_id(Some(bad))), "{bad}");
    }
    assert_eq!(query_id(None).unwrap(), None);
}

#[test]
fn texts_are_bounded() {
    assert_eq!(query_text(Some("ñ".repeat(MAX_TEXT))).unwrap().unwrap().chars().count(), MAX_TEXT);
    assert!(is_400(query_text(Some("ñ".repeat(MAX_TEXT + 1)))));
    assert!(is_400(query_text(Some("a\0".to_owned()))));
}

#[test]
fn both_ends_of_a_range_are_included() {
    let range = |from, to| {
        let range = time_range(from, to).unwrap();
        (range.from.to_rfc3339(), range.until.to_rfc3339())
    };
    assert_eq!(time_range(None, None).unwrap(), TimeRange::default());
    assert_eq!(
        range(Some("2026-02-28"), Some("2026-02-28")),
        ("2026-02-28T00:00:00+00:00".to_owned(), "2026-03-01T00:00:00+00:00".to_owned())
    );
    assert_eq!(
        range(Some("2026-02-28T08:00:00-04:00"), Some("2026-02-28T12:00:00.0009Z")),
        ("2026-02-28T12:00:00+00:00".to_owned(), "2026-02-28T12:00:00.001+00:00".to_owned())
    );
    assert!(time_range(Some("0001-01-01"), Some("9999-12-31")).is_ok());
    for bad in [
        "",
        "2026",
        "2026-2-28",
        "2026-02-30",
        "+026-02-28",
        "0000-01-01",
        "28.02.2026",
        "now",
        "1763950000123",
    ] {
        assert!(is_400(time_range(Some(bad), None)), "{bad}");
        assert!(is_400(time_range(None, Some(bad))), "{bad}");
    }
    for bad in ["2026-02-28T12:00:00", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"] {
        assert!(is_400(time_range(None, Some(bad))), "{bad}");
    }
}
