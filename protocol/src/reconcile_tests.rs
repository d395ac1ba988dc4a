use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).expect("a day")
}

fn name(event_id: &str, event_type: &str) -> EventName {
    EventName { event_id: event_id.to_owned(), event_type: event_type.to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes it");
        text
    })
}

fn parts() -> Vec<Part> {
    vec![
        Part { day: day(1970, 1, 1), low: 0, high: 1_023 },
        Part { day: day(2026, 11, 24), low: 7, high: 7 },
        Part { day: day(2026, 11, 24), low: 8, high: 16 },
    ]
}

fn requests() -> Vec<(Ask, &'static str)> {
    let message = || b"set".to_vec();
    vec![
        (Ask::Compare { scope: Scope::Years, message: message() }, "01 736574"),
        (
            Ask::Compare { scope: Scope::Days(vec![1, 2026]), message: message() },
            "02 00000002 0001 07ea 736574",
        ),
        (
            Ask::Compare { scope: Scope::Buckets(vec![day(1, 1, 1), day(9999, 12, 31)]), message: message() },
            "03 00000002 00000001 0037b9db 736574",
        ),
        (
            Ask::Compare { scope: Scope::Forms(parts()), message: Vec::new() },
            "04 00000003 000af93b 0000 03ff 000b4a68 0007 0007 000b4a68 0008 0010",
        ),
        (
            Ask::Resolve { parts: parts()[..1].to_vec(), items: vec![[0xaa; 32]] },
            "05 00000001 000af93b 0000 03ff
             00000001 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        (Ask::List { parts: Vec::new(), after: None }, "06 00000000 00000000"),
        (
            Ask::List { parts: Vec::new(), after: Some(name("é", "T")) },
            "06 00000000 00000001 0002 c3a9 0001 54",
        ),
        (Ask::Recount { days: vec![day(1970, 1, 1)] }, "07 00000001 000af93b"),
    ]
}

fn answers() -> Vec<(Answer, &'static str)> {
    vec![
        (Answer::Compared(b"set".to_vec()), "41 736574"),
        (
            Answer::Resolved(vec![(1, name("e", "")), (4095, name("f", "T"))]),
            "42 00000002 0001 0001 65 0000 0fff 0001 66 0001 54",
        ),
        (Answer::Listed { names: vec![name("e", "T")], more: true }, "43 01 00000001 0001 65 0001 54"),
        (Answer::Listed { names: Vec::new(), more: false }, "43 00 00000000"),
        (Answer::Recounted(513), "44 0201"),
        (Answer::TooMany, "45"),
    ]
}

#[test]
fn a_message_is_these_bytes() {
    let store_id = Uuid::from_u128(0x1122);
    for (ask, expected) in requests() {
        let request = Request { store_id, ask };
        let (kind, fields) = expected.split_at(2);
        let expected =
            format!("01{kind}{}{}", hex(store_id.as_bytes()), fields.split_whitespace().collect::<String>());
        let message = request.encode();
        assert_eq!(hex(&message), expected, "{request:?}");
        assert_eq!(Request::decode(&message), Ok(request));
    }
    for (answer, expected) in answers() {
        let message = answer.encode();
        assert_eq!(
            hex(&message),
            format!("01{}", expected.split_whitespace().collect::<String>()),
            "{answer:?}"
        );
        assert_eq!(Answer::decode(&message), Ok(answer));
    }
}

#[test]
fn a_digest_is_this_item() {
    let digest = Digest { day: day(2026, 11, 24), bucket: 9, count: 258, hash_a: -1, hash_b: 1 };
    assert_eq!(hex(&digest.item()), "000b4a680009000000000102899d926e899d749bf8167459bb93fb28aa2092d2");
    assert_eq!(Digested::read(&digest.item()), Some(Digested { day: digest.day, bucket: 9, count: 258 }));
    let differing = [
        Digest { day: day(2026, 11, 25), ..digest },
        Digest { bucket: 8, ..digest },
        Digest { count: 257, ..digest },
        Digest { hash_a: 0, ..digest },
        Digest { hash_b: 2, ..digest },
    ];
    for other in differing {
        assert_ne!(other.item()[12..], digest.item()[12..], "the hash is of everything: {other:?}");
    }
    let many = Digest { count: u64::MAX, ..digest };
    assert_eq!(Digested::read(&many.item()).map(|seen| seen.count), Some((1 << 48) - 1));
    assert_ne!(Digest { count: u64::MAX - 1, ..digest }.item(), many.item());
    assert_eq!(Digested::read(&[0; 32]), None);
    assert_eq!(Digested::read(&[0xff; 32]), None);
    assert!(digest.place() > Digest { bucket: 8, ..digest }.place());
    assert!(digest.place() < Digest { day: day(2026, 11, 25), bucket: 0, ..digest }.place());
}

/// The message of a request for store 0 with these bytes after the store.
fn request(kind: u8, fields: &[u8]) -> Vec<u8> {
    [&[VERSION, kind][..], &[0; 16], fields].concat()
}

#[test]
fn a_malformed_message_is_refused() {
    let count = |count: u32| count.to_be_bytes().to_vec();
    let fields = |parts: &[&[u8]]| parts.concat();
    let day = 739_000_u32.to_be_bytes();
    for (message, expected) in [
        (vec![], Malformed::Version),
        (vec![2, 1], Malformed::Version),
        (vec![VERSION], Malformed::Length),
        (vec![VERSION, 1, 0], Malformed::Length),
        (vec![VERSION; MAX_MESSAGE + 1], Malformed::TooLong),
        (request(0, &[]), Malformed::Kind),
        (request(8, &[]), Malformed::Kind),
        (request(COMPARED, &[]), Malformed::Kind),
        (request(COMPARE_DAYS, &[0, 0]), Malformed::Length),
        (request(COMPARE_DAYS, &fields(&[&count(1), &[0, 0]])), Malformed::Day),
        (request(COMPARE_DAYS, &fields(&[&count(1), &10_000_u16.to_be_bytes()])), Malformed::Day),
        (request(COMPARE_DAYS, &fields(&[&count(2), &[7, 1, 7, 1]])), Malformed::Order),
        (request(COMPARE_BUCKETS, &fields(&[&count(1), &[0; 4]])), Malformed::Day),
        (request(COMPARE_BUCKETS, &fields(&[&count(1), &[0, 0x37, 0xb9, 0xdc]])), Malformed::Day),
        (request(COMPARE_BUCKETS, &fields(&[&count(2), &day, &day])), Malformed::Order),
        (request(COMPARE_BUCKETS, &fields(&[&count(2), &day])), Malformed::Length),
        (request(COMPARE_BUCKETS, &count(4_097)), Malformed::Bound),
        (request(COMPARE_BUCKETS, &count(u32::MAX)), Malformed::Bound),
        (request(COMPARE_FORMS, &fields(&[&count(1), &day, &[0, 9, 0, 8]])), Malformed::Day),
        (request(COMPARE_FORMS, &fields(&[&count(1), &day, &[0, 9, 4, 0]])), Malformed::Day),
        (
            request(COMPARE_FORMS, &fields(&[&count(2), &day, &[0, 1, 0, 3], &day, &[0, 3, 0, 4]])),
            Malformed::Order,
        ),
        (request(RESOLVE, &fields(&[&count(0), &count(4_097)])), Malformed::Bound),
        (request(RESOLVE, &fields(&[&count(0), &count(1), &[0; 31]])), Malformed::Length),
        (request(RESOLVE, &fields(&[&count(0), &count(1), &[0; 33]])), Malformed::Length),
        (request(LIST, &fields(&[&count(0), &count(2), &[0; 99]])), Malformed::Bound),
        (request(LIST, &fields(&[&count(0), &count(1), &[0, 2, 0xc3, 0x28, 0, 0]])), Malformed::Text),
        (request(LIST, &fields(&[&count(0), &count(1), &[0, 1, 0, 0, 0]])), Malformed::Text),
        (request(LIST, &fields(&[&count(0), &count(1), &[0xff; 9_000]])), Malformed::Bound),
        (request(RECOUNT, &fields(&[&count(1), &day, &[0]])), Malformed::Length),
    ] {
        let start = &message[..message.len().min(60)];
        assert_eq!(Request::decode(&message), Err(expected), "{start:?}");
    }
    for (message, expected) in [
        (vec![], Malformed::Version),
        (vec![VERSION, LIST], Malformed::Kind),
        (vec![VERSION, LISTED, 2, 0, 0, 0, 0], Malformed::Kind),
        (vec![VERSION, RESOLVED, 0, 0, 0, 1, 0, 0], Malformed::Length),
        (vec![VERSION, RECOUNTED, 0], Malformed::Length),
        (vec![VERSION, TOO_MANY, 0], Malformed::Length),
    ] {
        assert_eq!(Answer::decode(&message), Err(expected), "{message:?}");
    }
}

fn names() -> impl Strategy<Value = EventName> {
    ("[^\0]{0,255}", "[^\0]{0,100}").prop_map(|(event_id, event_type)| EventName { event_id, event_type })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        items in proptest::collection::vec(any::<[u8; 32]>(), 0..20),
        list in proptest::collection::vec((any::<u16>(), names()), 0..20),
        more in any::<bool>(),
    ) {
        let after = list.first().map(|(_, name)| name.clone());
        for ask in [Ask::Resolve { parts: parts(), items }, Ask::List { parts: parts(), after }] {
            let request = Request { store_id: Uuid::nil(), ask };
            prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        let names: Vec<EventName> = list.iter().map(|(_, name)| name.clone()).collect();
        let bytes: usize = names.iter().map(Answer::bytes_of).sum();
        for answer in [Answer::Resolved(list), Answer::Listed { names, more }] {
            prop_assert!(answer.encode().len() <= bytes + 7);
            prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    /// Any bytes, and sound messages with some bytes changed, cut or added.
    #[test]
    fn whatever_comes_is_read_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        kind in any::<u8>(),
        (which, at, to, cut) in (0_usize..8, 0_usize..100, any::<u8>(), 0_usize..100),
    ) {
        let mut message = request(kind % 8, &noise);
        for _ in 0..2 {
            for message in [&message[..], &noise[..]] {
                if let Ok(request) = Request::decode(message) {
                    // Nothing is read in two ways.
                    prop_assert_eq!(request.encode(), message);
                }
                if let Ok(answer) = Answer::decode(message) {
                    prop_assert_eq!(answer.encode(), message);
                }
            }
            message = Request { store_id: Uuid::nil(), ask: requests().swap_remove(which).0 }.encode();
            if let Some(byte) = message.get_mut(at) {
                *byte = to;
            }
            message.truncate(message.len().saturating_sub(cut % 7));
        }
    }
}
