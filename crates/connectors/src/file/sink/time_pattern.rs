//! Times as names of folders.

use std::fmt::Write as _;

use streamd_core::source::ConnectorError;
use streamd_core::time::WallTime;

const MILLIS_OF_DAY: i64 = 24 * 60 * 60 * 1000;

/// A pattern such as `yyyy-MM-dd--HH` in which letters stand for parts of a time, always in UTC:
/// `yyyy` year, `MM` month, `dd` day, `HH` hour, `mm` minute, `ss` second. All that is no letter stands for itself, and so does
/// text between single quotes. Flink's patterns, as far as folders need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl TimePattern {
    /// Errors if a letter has no meaning here.
    pub fn parse(pattern: &str) -> Result<Self, ConnectorError> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_ascii_alphabetic() {
                rest.len() - rest.trim_start_matches(first).len()
            } else {
                first.len_utf8()
            };
            let (run, after) = rest.split_at(length);
            rest = after;
            parts.push(match run {
                "yyyy" => Part::Year,
                "MM" => Part::Month,
                "dd" => Part::Day,
                "HH" => Part::Hour,
                "mm" => Part::Minute,
                "ss" => Part::Second,
                "'" => {
                    let (quoted, after) = rest.split_once('\'').ok_or_else(|| {
                        ConnectorError::new(format!("the time pattern `{pattern}` has a quote that does not end"))
                    })?;
                    rest = after;
                    Part::Text(quoted.to_owned())
                }
                letters if first.is_ascii_alphabetic() => {
                    return Err(ConnectorError::new(format!(
                        "the time pattern `{pattern}` has `{letters}`, which stands for nothing: \
                         there are `yyyy`, `MM`, `dd`, `HH`, `mm`, `ss`, and text between single quotes"
                    )));
                }
                text => Part::Text(text.to_owned()),
            });
        }
        Ok(Self { parts })
    }

    /// The time by this pattern.
    pub fn format(&self, time: WallTime) -> String {
        let (year, month, day) = date_of(time.0.div_euclid(MILLIS_OF_DAY));
        let second = time.0.rem_euclid(MILLIS_OF_DAY) / 1000;
        let mut text = String::new();
        for part in &self.parts {
            let written = match part {
                Part::Text(part) => write!(text, "{part}"),
                Part::Year => write!(text, "{year:04}"),
                Part::Month => write!(text, "{month:02}"),
                Part::Day => write!(text, "{day:02}"),
                Part::Hour => write!(text, "{:02}", second / 3600),
                Part::Minute => write!(text, "{:02}", second / 60 % 60),
                Part::Second => write!(text, "{:02}", second % 60),
            };
            written.expect("a string takes everything");
        }
        text
    }
}

/// Year, month and day in the Gregorian calendar of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn date_of(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pattern: &str, millis: i64) -> String {
        TimePattern::parse(pattern).unwrap().format(WallTime(millis))
    }

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(shown("yyyy-MM-dd--HH", 0), "1970-01-01--00");
        // date -u -d @951827696: the leap day of a year that ends with 00.
        assert_eq!(shown("yyyy/MM/dd HH:mm:ss", 951_827_696_789), "2000/02/29 12:34:56");
        assert_eq!(shown("yyyy-MM-dd'T'HH", -1), "1969-12-31T23");
        assert_eq!(shown("'day='yyyyMMdd", 4_102_444_800_000), "day=21000101");
        assert_eq!(shown("yyyy-MM-dd", 1_709_164_800_000 + 86_400_000), "2024-03-01");
        // The ends of time are far, and no panic.
        shown("yyyy-MM-dd", i64::MAX);
        shown("yyyy-MM-dd", i64::MIN);
    }

    #[test]
    fn letters_without_a_meaning_are_refused() {
        for bad in ["yy", "yyyyMMddhh", "YYYY", "x", "yyyy'a"] {
            let error = TimePattern::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the time pattern `{bad}`")), "{error}");
        }
    }
}
