//! Times, checked against those a person would name.

use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    date(&json!(text)).expect("a date")
}

fn cron(pattern: &str, zone: Option<&str>) -> Timetable {
    let when = When::Cron {
        cron: pattern.to_owned(),
        timezone: zone.map(str::to_owned),
    };
    Timetable::new(&when, None, None).expect("legal")
}

/// The first times after `from`.
#[track_caller]
fn follow(timetable: &Timetable, from: &str, expected: &[&str]) {
    let mut time = at(from);
    for expected in expected {
        time = timetable.next_after(time).expect("there is a next");
        assert_eq!(iso_seconds(time), *expected);
        assert_eq!(timetable.latest_upto(time), Some(time), "it is one of them");
    }
}

#[test]
fn cron_follows_the_clock_of_its_zone() {
    let daily = cron("30 2 * * *", Some("Europe/Berlin"));
    // In winter an hour ahead of UTC; on 30 March 2025 the clocks skip from 2 to 3.
    let times = [
        "2025-03-29T01:30:00Z",
        "2025-03-30T01:00:00Z",
        "2025-03-31T00:30:00Z",
    ];
    follow(&daily, "2025-03-28T12:00:00Z", &times);
    // On 26 October 2025 half past two comes twice, and is the time once.
    let times = ["2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"];
    follow(&daily, "2025-10-25T12:00:00Z", &times);
    let hourly = cron("0 * * * *", Some("Europe/Berlin"));
    let times = [
        "2025-10-26T00:00:00Z",
        "2025-10-26T01:00:00Z",
        "2025-10-26T02:00:00Z",
    ];
    follow(&hourly, "2025-10-25T23:30:00Z", &times);
}

#[test]
fn cron_takes_five_or_six_fields() {
    follow(
        &cron("*/2 * * * *", None),
        "2024-02-29T23:58:30Z",
        &["2024-03-01T00:00:00Z"],
    );
    let half = ["2024-01-01T00:00:30Z", "2024-01-01T00:01:00Z"];
    follow(
        &cron("*/30 * * * * *", None),
        "2024-01-01T00:00:00.500Z",
        &half,
    );
    follow(
        &cron("0 9 8 * *", None),
        "2024-01-08T09:00:00Z",
        &["2024-02-08T09:00:00Z"],
    );
    // Either day will do.
    let either = ["2024-01-08T00:00:00Z", "2024-01-13T00:00:00Z"];
    follow(&cron("0 0 13 * MON", None), "2024-01-02T00:00:00Z", &either);
}

#[test]
fn what_is_no_schedule_is_refused() {
    let long = "1,".repeat(400) + "1 * * * *";
    for bad in [
        "",
        "1595862000000",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "0 0 30 2 *",
        &long,
    ] {
        let when = When::Cron {
            cron: bad.to_owned(),
            timezone: None,
        };
        let refused = Timetable::new(&when, None, None).expect_err(bad);
        assert_eq!(
            refused.to_string(),
            format!("cron pattern '{bad}' is not valid")
        );
    }
    let when = When::Cron {
        cron: "* * * * *".to_owned(),
        timezone: Some("America/RTP".to_owned()),
    };
    let refused = Timetable::new(&when, None, None).expect_err("no zone");
    assert_eq!(refused.to_string(), "Invalid timezone.");
}

#[test]
fn intervals_count_from_their_start_and_end_with_their_stop() {
    let (start, stop) = (Timestamp(1_000_000), Timestamp(1_000_000 + 3 * MINUTE_MS));
    let every = Timetable::new(&When::Every { minutes: 1 }, Some(start), Some(stop));
    let every = every.expect("legal");
    assert_eq!(every.next_after(Timestamp(0)), Some(start));
    assert_eq!(every.next_after(start), Some(Timestamp(1_060_000)));
    assert_eq!(every.next_after(Timestamp(stop.0 - 1)), Some(stop));
    assert_eq!(every.next_after(stop), None);
    assert_eq!(every.latest_upto(Timestamp(999_999)), None);
    assert_eq!(
        every.latest_upto(Timestamp(1_119_999)),
        Some(Timestamp(1_060_000))
    );
    assert_eq!(every.latest_upto(Timestamp(u64::MAX)), Some(stop));
}

#[test]
fn once_is_once() {
    let once = Timetable::new(&When::Once { date: Timestamp(5) }, None, None).expect("legal");
    assert_eq!(
        (once.next_after(Timestamp(4)), once.next_after(Timestamp(5))),
        (Some(Timestamp(5)), None)
    );
    assert_eq!(
        (
            once.latest_upto(Timestamp(4)),
            once.latest_upto(Timestamp(9))
        ),
        (None, Some(Timestamp(5)))
    );
}

#[test]
fn dates_are_numbers_or_iso_8601() {
    let expected = Some(Timestamp(1_548_979_140_000));
    for good in [
        json!(1_548_979_140_000u64),
        json!("2019-01-31T23:59:00.000Z"),
        json!("2019-02-01T00:59:00+01:00"),
        json!("2019-01-31T23:59:00"),
    ] {
        assert_eq!(date(&good), expected, "{good}");
    }
    assert_eq!(date(&json!("2019-01-31")), Some(at("2019-01-31T00:00:00Z")));
    for bad in [json!("tomorrow"), json!(""), json!({}), json!(1e300)] {
        assert_eq!(date(&bad), None, "{bad}");
    }
}
