//! Names that nobody can make look like another's by what cannot be seen: normalised, and without invisible, private or unassigned characters.
//!
//! Letters of other scripts that look like Latin ones are letters all the same, and are allowed (`а` and `a`).

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    DefaultIgnorableCodePoint, Emoji, EmojiModifier, EmojiPresentation, ExtendedPictographic,
    GeneralCategory,
};
use icu_properties::{CodePointMapData, CodePointSetData};

use super::{BYTES_MAX, BadName, check};

const JOINER: char = '\u{200d}';
const AS_EMOJI: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';
const BRAILLE_BLANK: char = '\u{2800}';
/// More marks upon one letter than any language has (UTS 39, section 5.4).
const MARKS_MAX: usize = 4;

/// The name as it is compared and passed on, in normalisation form C; or why it is none.
#[inline]
pub(super) fn read(name: Cow<'_, str>) -> Result<Cow<'_, str>, BadName> {
    if is_plain(&name) {
        return Ok(name);
    }
    closely(name)
}

/// Whether it is a name as it stands, which most are.
#[inline]
pub(super) fn is_plain(name: &str) -> bool {
    let len = name.len();
    len != 0 && len <= BYTES_MAX && name.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
}

/// Whether it is a name as it stands. A verdict of false may be wrong.
pub(super) fn is_ordinary(name: &str) -> bool {
    let inner = !name.starts_with(' ') && !name.ends_with(' ') && !name.contains("  ");
    check(name).is_ok() && inner && name.chars().all(|c| matches!(c, ' '..='~') || is_common(c))
}

fn closely(name: Cow<'_, str>) -> Result<Cow<'_, str>, BadName> {
    check(&name)?;
    if is_ordinary(&name) {
        return Ok(name);
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    let name = match nfc.is_normalized(&name) {
        true => name,
        false => Cow::Owned(nfc.normalize(&name).into_owned()),
    };
    check(&name)?;
    if name.starts_with(' ') || name.ends_with(' ') || name.contains("  ") {
        return Err(BadName::Space);
    }
    judge(&name)?;
    Ok(name)
}

fn judge(name: &str) -> Result<(), BadName> {
    let category = CodePointMapData::<GeneralCategory>::new();
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let refused = |character, what| Err(BadName::Character { character, what });
    let mut marks = 0;
    for (at, c) in name.char_indices() {
        let (before, after) = (&name[..at], &name[at + c.len_utf8()..]);
        let kind = category.get(c);
        let is_mark = matches!(
            kind,
            GeneralCategory::NonspacingMark
                | GeneralCategory::EnclosingMark
                | GeneralCategory::SpacingMark
        );
        if ignorable.contains(c) || kind == GeneralCategory::Format || c == BRAILLE_BLANK {
            let is_of_an_emoji = match c {
                AS_EMOJI => becomes_emoji(before, after),
                JOINER => joins_emoji(before, after),
                _ => false,
            };
            if !is_of_an_emoji {
                return refused(c, "is invisible, or changes the order of what is shown");
            }
            continue;
        }
        match kind {
            GeneralCategory::Unassigned | GeneralCategory::PrivateUse => {
                return refused(c, "is no character that everybody knows");
            }
            GeneralCategory::SpaceSeparator if c != ' ' => {
                return refused(c, "looks like a space, and is another");
            }
            GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
                return refused(c, "breaks the line");
            }
            _ => {}
        }
        marks = if is_mark { marks + 1 } else { 0 };
        if is_mark && (before.is_empty() || before.ends_with(' ')) {
            return refused(c, "is a mark upon a letter, and there is none before it");
        }
        if marks > MARKS_MAX {
            return refused(c, "is one mark too many upon a letter");
        }
    }
    Ok(())
}

/// Whether what stands before a selector for emoji is shown otherwise with it.
fn becomes_emoji(before: &str, after: &str) -> bool {
    before.chars().next_back().is_some_and(|c| {
        CodePointSetData::new::<Emoji>().contains(c)
            && !CodePointSetData::new::<EmojiPresentation>().contains(c)
            && (!c.is_ascii() || after.starts_with(KEYCAP))
    })
}

fn joins_emoji(before: &str, after: &str) -> bool {
    let pictures = CodePointSetData::new::<ExtendedPictographic>();
    let modifiers = CodePointSetData::new::<EmojiModifier>();
    let mut before = before
        .chars()
        .rev()
        .skip_while(|&c| c == AS_EMOJI || modifiers.contains(c));
    let picture = |c: Option<char>| c.is_some_and(|c| pictures.contains(c));
    picture(before.next()) && picture(after.chars().next())
}

/// Letters that are in form C whatever stands beside them, and visible: a closer look would find nothing.
fn is_common(c: char) -> bool {
    matches!(c,
        '\u{c0}'..='\u{17f}' | '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3c9}' | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}'
        | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fef}' | '\u{ac00}'..='\u{d7a3}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn safe(name: &str) -> Result<String, BadName> {
        read(Cow::Borrowed(name)).map(Cow::into_owned)
    }

    #[test]
    fn names_of_all_peoples_stay_as_they_are() {
        for name in [
            "ann",
            "Иван Грозный",
            "李雷",
            "김철수",
            "たろう",
            "محمد",
            "דוד",
            "José",
            "Ångström",
            "नेहा",
            "สมชาย",
            "🦀",
            "❤\u{fe0f}",
            "👩\u{200d}🚀",
            "👩🏽\u{200d}🚀",
            "🏳\u{fe0f}\u{200d}🌈",
            "👁\u{fe0f}\u{200d}🗨\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "🇩🇪",
            "x@example.com",
            "Łódź",
            "Nguyễn",
            "ﬁ",
        ] {
            assert_eq!(safe(name).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_the_same_name() {
        assert_eq!(safe("Jose\u{301}").as_deref(), Ok("José"));
        assert_eq!(safe("A\u{30a}").as_deref(), safe("\u{212b}").as_deref());
        assert_eq!(safe("\u{1112}\u{1161}\u{11ab}").as_deref(), Ok("한"));
    }

    #[test]
    fn what_cannot_be_seen_or_seems_something_else_is_refused() {
        for name in [
            " ",
            "   ",
            " ann",
            "ann ",
            "a  b",
            "ann\u{200b}",
            "\u{200d}",
            "an\u{200d}n",
            "ann\u{fe0f}",
            "1\u{fe0f}",
            "🦀\u{fe0f}",
            "🦀\u{200d}",
            "🦀\u{200d}x",
            "\u{202e}nna",
            "a\u{2066}b\u{2069}",
            "a\u{200e}",
            "\u{feff}ann",
            "a\u{ad}b",
            "ann\u{e0061}",
            "🏴\u{e0067}\u{e007f}",
            "a\u{a0}b",
            "a\u{3000}b",
            "a\u{2028}b",
            "\u{3164}",
            "\u{115f}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{e000}",
            "\u{10ffff}",
            "\u{fdd0}",
            "\u{378}",
            "\u{301}a",
            "a \u{301}",
            "a\u{316}\u{317}\u{318}\u{319}\u{31c}",
            "\u{34f}",
            "a\u{180e}",
            "a\u{2060}b",
            "a\u{fffe}",
            "क\u{200c}ख",
        ] {
            assert!(safe(name).is_err(), "{name:?}");
        }
        let why = safe("ann\u{202e}").unwrap_err().to_string();
        assert!(why.contains("U+202E"), "{why}");
    }

    #[test]
    fn common_letters_need_no_closer_look() {
        let nfc = ComposingNormalizerBorrowed::new_nfc();
        for c in ('\u{80}'..=char::MAX).filter(|&c| is_common(c)) {
            for text in [
                c.to_string(),
                format!("{c}{c}"),
                format!("a{c}"),
                format!("{c}a"),
                format!("か{c}"),
                format!("각{c}"),
                format!("ا{c}"),
            ] {
                assert!(nfc.is_normalized(&text), "{text:?}");
                assert_eq!(judge(&text), Ok(()), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_accepted_again_as_itself(name in "[a-zé\u{300}-\u{310}\u{200b}-\u{200f}\u{fe0f} 🦀❤👩🚀\u{1112}\u{1161}\u{11ab}か\u{3099}]{1,8}") {
            if let Ok(once) = safe(&name) {
                prop_assert_eq!(safe(&once), Ok(once.clone()));
                prop_assert!(ComposingNormalizerBorrowed::new_nfc().is_normalized(&once));
            }
            if is_ordinary(&name) {
                prop_assert_eq!(safe(&name), Ok(name.clone()));
            }
        }
    }
}
