//! The text form of bytes: whatever bytes there are have one that gives them back, and whatever
//! text there is either stands for bytes or is refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = base::text::escape(bytes);
    assert_eq!(base::text::unescape(&text).as_deref(), Ok(bytes));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(stands_for) = base::text::unescape(text)
    {
        assert_eq!(base::text::unescape(&base::text::escape(&stands_for)), Ok(stands_for));
    }
});
