//! Paths into sequences, as file names and queries write them.
//!
//! `0010,0020` is a top-level element, `0008,1110.2/0008,1155` an element of the third item of a sequence
//! (the first where no number is given), a leading `/` changes nothing. Keywords stand for tags.

use crate::dict;
use crate::tag::Tag;

/// One element of a path; `item` says which item the next step looks into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The element.
    pub tag: Tag,
    /// Which of its items the rest of the path is about.
    pub item: usize,
}

/// A parsed path of at least one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

/// The text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path is written gggg,eeee or gggg,eeee.N/gggg,eeee")]
pub struct ParsePathError;

impl Path {
    /// The steps, the top-level element first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl From<Tag> for Path {
    fn from(tag: Tag) -> Self {
        Self {
            steps: vec![Step { tag, item: 0 }],
        }
    }
}

impl std::str::FromStr for Path {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let steps: Result<Vec<Step>, ParsePathError> = text.split('/').map(parse_step).collect();
        Ok(Self { steps: steps? })
    }
}

fn parse_step(text: &str) -> Result<Step, ParsePathError> {
    let (name, item) = match text.split_once('.') {
        Some((name, item)) => (name, item.parse().map_err(|_| ParsePathError)?),
        None => (text, 0),
    };
    let tag = match name.parse() {
        Ok(tag) => Some(tag),
        Err(_) => dict::tag_by_keyword(name),
    };
    tag.map(|tag| Step { tag, item }).ok_or(ParsePathError)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let path: Path = "0008,1110.2/0008,1155".parse().unwrap();
        let wanted = [
            Step {
                tag: Tag::REFERENCED_STUDY_SEQUENCE,
                item: 2,
            },
            Step {
                tag: Tag::REFERENCED_SOP_INSTANCE_UID,
                item: 0,
            },
        ];
        assert_eq!(path.steps(), wanted);
        assert_eq!("/0008,1110.2/0008,1155".parse(), Ok(path));
        assert_eq!("PatientID".parse(), Ok(Path::from(Tag::PATIENT_ID)));
        for text in [
            "",
            "/",
            "0008,1110.x/0008,1155",
            "0008,1110/",
            "NoSuchKeyword",
        ] {
            assert_eq!(text.parse::<Path>(), Err(ParsePathError), "{text}");
        }
    }
}
