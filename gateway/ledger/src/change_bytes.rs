//! Changes as bytes, in events and in snapshots. Names are written out, so that a change is read without the events before it.

use ulid::Ulid;

use crate::change::{Answered, Change, Document, Documents};
use crate::wire::{DecodeError, Reader, Writer};

/// Which optional fields of a change follow, and whether what it says stays in force.
const HAS_BEFORE: u8 = 1;
const HAS_AFTER: u8 = 1 << 1;
const IS_KEPT: u8 = 1 << 2;
const HAS_REQUEST: u8 = 1 << 3;
const HAS_VERSION: u8 = 1 << 4;

pub(crate) fn write_change(w: &mut Writer, change: &Change) {
    let flags = [
        (HAS_BEFORE, change.before.is_some()),
        (HAS_AFTER, change.after.is_some()),
        (IS_KEPT, change.kept),
        (HAS_REQUEST, change.request.is_some()),
        (HAS_VERSION, change.min_version > 0),
    ];
    w.byte(
        flags
            .iter()
            .fold(0, |all, (flag, is_set)| all | (flag * u8::from(*is_set))),
    );
    w.raw(&change.id.to_bytes());
    for name in [
        &change.author,
        &change.peer,
        &change.action,
        &change.subject,
        &change.tenant,
        &change.note,
    ] {
        w.text(name);
    }
    for text in change.before.iter().chain(&change.after) {
        w.text(text);
    }
    if let Some(answered) = &change.request {
        write_answered(w, answered);
    }
    if change.min_version > 0 {
        w.unsigned(change.min_version);
    }
}

pub(crate) fn read_change(r: &mut Reader<'_>, at_ms: i64) -> Result<Change, DecodeError> {
    let flags = r.byte()?;
    if flags & !(HAS_BEFORE | HAS_AFTER | IS_KEPT | HAS_REQUEST | HAS_VERSION) != 0 {
        return Err(DecodeError::Malformed("unknown fields of a change"));
    }
    let has = |flag: u8| flags & flag != 0;
    Ok(Change {
        id: Ulid::from_bytes(r.array()?),
        at_ms,
        author: r.text()?.into(),
        peer: r.text()?.into(),
        action: r.text()?.into(),
        subject: r.text()?.into(),
        tenant: r.text()?.into(),
        note: r.text()?.into(),
        before: if has(HAS_BEFORE) { Some(r.text()?.into()) } else { None },
        after: if has(HAS_AFTER) { Some(r.text()?.into()) } else { None },
        kept: has(IS_KEPT),
        request: if has(HAS_REQUEST) {
            Some(read_answered(r)?)
        } else {
            None
        },
        min_version: if has(HAS_VERSION) { r.unsigned()? } else { 0 },
    })
}

fn write_answered(w: &mut Writer, answered: &Answered) {
    w.text(&answered.id);
    w.raw(&answered.digest);
    w.text(&answered.answer);
}

fn read_answered(r: &mut Reader<'_>) -> Result<Answered, DecodeError> {
    Ok(Answered {
        id: r.text()?.into(),
        digest: r.array()?,
        answer: r.text()?.into(),
    })
}

pub(crate) fn write_documents(w: &mut Writer, documents: &Documents) {
    w.unsigned(documents.len() as u64);
    for document in documents.of("") {
        w.text(&document.subject);
        w.text(&document.value);
        w.unsigned(document.version);
        w.raw(&document.change.to_bytes());
        w.signed(document.at_ms);
        for name in [&document.author, &document.tenant, &document.note] {
            w.text(name);
        }
    }
    let answers = documents.answers();
    w.unsigned(answers.len() as u64);
    for (author, answered) in answers {
        w.text(author);
        write_answered(w, answered);
    }
}

pub(crate) fn read_documents(r: &mut Reader<'_>) -> Result<Documents, DecodeError> {
    let mut documents = Documents::default();
    for _ in 0..r.count()? {
        let subject = r.text()?;
        if documents.get(subject).is_some() {
            return Err(DecodeError::Malformed("a document twice"));
        }
        documents.put(Document {
            subject: subject.into(),
            value: r.text()?.into(),
            version: r.unsigned()?,
            change: Ulid::from_bytes(r.array()?),
            at_ms: r.signed()?,
            author: r.text()?.into(),
            tenant: r.text()?.into(),
            note: r.text()?.into(),
        });
    }
    for _ in 0..r.count()? {
        documents.put_answer(r.text()?.into(), read_answered(r)?);
    }
    Ok(documents)
}
