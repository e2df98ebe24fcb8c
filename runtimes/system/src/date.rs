//! The calendar, for `date`.

use alloc::string::String;

use crate::json::decimal;

/// A moment, UTC, as people write it.
#[derive(Debug, Clone, Copy)]
pub struct Date {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    /// From 0, Sunday.
    weekday: u64,
    /// Since midnight.
    ms: u64,
}

impl Date {
    /// From milliseconds since 1970.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        let days = ms / 86_400_000;
        // Counted from the first of March of the year 0, so that a leap day ends a year; eras have 400 years.
        let from_march = days + 719_468;
        let era = from_march / 146_097;
        let day_of_era = from_march % 146_097;
        let leaps = day_of_era / 1_460 + day_of_era / 146_096;
        let year_of_era = (day_of_era + day_of_era / 36_524 - leaps) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let is_next_year = month_from_march >= 10;
        Self {
            year: era * 400 + year_of_era + u64::from(is_next_year),
            month: if is_next_year {
                month_from_march - 9
            } else {
                month_from_march + 3
            },
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            weekday: (days + 4) % 7,
            ms: ms % 86_400_000,
        }
    }

    /// `2016-03-22T00:59:55.961Z`
    #[must_use]
    pub fn iso(&self) -> String {
        let mut text = padded(self.year, 4) + "-" + &padded(self.month, 2) + "-";
        text.push_str(&padded(self.day, 2));
        text.push('T');
        text.push_str(&self.clock());
        text.push('.');
        text.push_str(&padded(self.ms % 1000, 3));
        text.push('Z');
        text
    }

    /// `Tue Mar 22 2016 00:59:55 GMT+0000 (UTC)`
    #[must_use]
    pub fn sentence(&self) -> String {
        let three = |names: &str, at: u64| -> String {
            names.chars().skip(at as usize * 3).take(3).collect()
        };
        let mut text = three("SunMonTueWedThuFriSat", self.weekday) + " ";
        text.push_str(&three(
            "JanFebMarAprMayJunJulAugSepOctNovDec",
            self.month - 1,
        ));
        text.push(' ');
        text.push_str(&padded(self.day, 2));
        text.push(' ');
        text.push_str(&padded(self.year, 4));
        text.push(' ');
        text.push_str(&self.clock());
        text.push_str(" GMT+0000 (UTC)");
        text
    }

    fn clock(&self) -> String {
        let seconds = self.ms / 1000;
        let minutes = padded(seconds / 60 % 60, 2);
        padded(seconds / 3600, 2) + ":" + &minutes + ":" + &padded(seconds % 60, 2)
    }
}

/// With zeros in front, up to `width`.
fn padded(number: u64, width: usize) -> String {
    let digits = decimal(number);
    let mut text = String::new();
    for _ in digits.len()..width {
        text.push('0');
    }
    text + &digits
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, iso, sentence) in [
            (
                0,
                "1970-01-01T00:00:00.000Z",
                "Thu Jan 01 1970 00:00:00 GMT+0000 (UTC)",
            ),
            (
                951_782_400_000,
                "2000-02-29T00:00:00.000Z",
                "Tue Feb 29 2000 00:00:00 GMT+0000 (UTC)",
            ),
            (
                1_458_608_395_961,
                "2016-03-22T00:59:55.961Z",
                "Tue Mar 22 2016 00:59:55 GMT+0000 (UTC)",
            ),
            (
                1_735_689_599_999,
                "2024-12-31T23:59:59.999Z",
                "Tue Dec 31 2024 23:59:59 GMT+0000 (UTC)",
            ),
            (
                4_107_542_400_000,
                "2100-03-01T00:00:00.000Z",
                "Mon Mar 01 2100 00:00:00 GMT+0000 (UTC)",
            ),
        ] {
            let date = Date::from_ms(ms);
            assert_eq!(date.iso(), iso);
            assert_eq!(date.sentence(), sentence);
        }
    }
}
