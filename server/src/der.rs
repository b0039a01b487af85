//! As much of DER as is needed: when a certificate ends, and the key in a public key's PEM.

/// Tag of a SEQUENCE.
const SEQUENCE: u8 = 0x30;
/// Tag of a BIT STRING.
const BIT_STRING: u8 = 0x03;
/// Tag of a UTCTime: two digits of the year.
const UTC_TIME: u8 = 0x17;
/// Tag of a GeneralizedTime: four digits of the year.
const GENERALIZED_TIME: u8 = 0x18;
/// Tag of the version of a certificate.
const VERSION: u8 = 0xa0;

/// Reads elements one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element: tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let bytes = usize::from(first & 0x7f);
            // Nothing that is read here has 16 MiB.
            if bytes == 0 || bytes > 3 {
                return None;
            }
            let (length, after) = rest.split_at_checked(bytes)?;
            rest = after;
            length.iter().fold(0, |n, &b| n << 8 | usize::from(b))
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// When a certificate ends, in milliseconds since the epoch.
pub(crate) fn not_after_ms(certificate: &[u8]) -> Option<u64> {
    let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
    let mut fields = Reader(outer.expect(SEQUENCE)?);
    let (tag, _) = fields.next()?;
    if tag == VERSION {
        // The serial number, which comes first where there is no version.
        fields.next()?;
    }
    fields.expect(SEQUENCE)?; // signature algorithm
    fields.expect(SEQUENCE)?; // issuer
    let mut validity = Reader(fields.expect(SEQUENCE)?);
    validity.next()?;
    let (tag, text) = validity.next()?;
    time_ms(tag, text)
}

/// Algorithm identifier (the content of its SEQUENCE) and key of a SubjectPublicKeyInfo.
pub(crate) fn public_key(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(info);
    let mut fields = Reader(reader.expect(SEQUENCE)?);
    let algorithm = fields.expect(SEQUENCE)?;
    let (unused_bits, key) = fields.expect(BIT_STRING)?.split_first()?;
    let complete = reader.0.is_empty() && fields.0.is_empty() && *unused_bits == 0;
    complete.then_some((algorithm, key))
}

fn time_ms(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let year: u64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let days = days_before_year(year)?
        + (1..month).map(|m| days_of_month(year, m)).sum::<u64>()
        + (day - 1);
    Some((days * 86_400 + seconds) * 1000)
}

/// Days from 1970 to the start of a year.
fn days_before_year(year: u64) -> Option<u64> {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = year.checked_sub(1970)?;
    Some(years * 365 + leap_days(year - 1) - leap_days(1969))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "240229123456Z", 1_709_210_096),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(time_ms(tag, text.as_bytes()), Some(seconds * 1000), "{text}");
        }
        for text in ["", "Z", "7001010000Z", "700101000000", "701301000000Z", "7001010000+1Z"] {
            assert_eq!(time_ms(UTC_TIME, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_found_and_no_damage_panics() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der();
        assert_eq!(not_after_ms(der), Some(1_927_843_200_000));
        for end in 0..der.len() {
            let _ = not_after_ms(&der[..end]);
        }
        for at in 0..der.len() {
            let mut damaged = der.to_vec();
            damaged[at] ^= 0xff;
            let _ = not_after_ms(&damaged);
        }
    }

    #[test]
    fn a_public_key_is_found_and_no_damage_panics() {
        let info = b"\x30\x0c\x30\x05\x06\x03\x2b\x65\x70\x03\x03\x00\xaa\xbb";
        let found: (&[u8], &[u8]) = (b"\x06\x03\x2b\x65\x70", b"\xaa\xbb");
        assert_eq!(public_key(info), Some(found));
        for end in 0..info.len() {
            assert_eq!(public_key(&info[..end]), None);
        }
        assert_eq!(public_key(&[info.as_slice(), b"\0"].concat()), None, "more behind it");
        for at in 0..info.len() {
            let mut damaged = *info;
            damaged[at] ^= 0xff;
            assert_ne!(public_key(&damaged), Some(found));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            let _ = not_after_ms(&bytes);
            let _ = public_key(&bytes);
            let _ = time_ms(UTC_TIME, &bytes);
        }
    }
}
