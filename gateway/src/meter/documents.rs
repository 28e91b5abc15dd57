//! A whole answer: a JSON document, or several in a row. A short one is held, a longer one read as it passes.

use super::core::Core;
use crate::plugin::outline::Arriving;

#[derive(Default)]
pub(super) struct WholeAnswer {
    held: Vec<u8>,
    held_bytes_max: usize,
    documents: Option<Documents>,
}

#[derive(Default)]
struct Documents {
    arriving: Option<Box<Arriving>>,
    count: u64,
    /// What follows the documents is none.
    is_over: bool,
}

impl WholeAnswer {
    pub(super) fn new(held_bytes_max: usize) -> WholeAnswer {
        WholeAnswer {
            held_bytes_max,
            ..WholeAnswer::default()
        }
    }

    pub(super) fn push(&mut self, core: &mut Core, bytes: &[u8]) {
        if let Some(documents) = &mut self.documents {
            return documents.push(core, bytes);
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() > self.held_bytes_max {
            self.pass(core);
        }
    }

    /// False: it cannot be read.
    pub(super) fn finish(&mut self, core: &mut Core) -> bool {
        if self.documents.is_none()
            && let Some(outline) = core.outline_strictly(&self.held)
        {
            core.document(&self.held, outline);
            return true;
        }
        self.pass(core).finish(core)
    }

    fn pass(&mut self, core: &mut Core) -> &mut Documents {
        let held = std::mem::take(&mut self.held);
        let documents = self.documents.get_or_insert_default();
        documents.push(core, &held);
        documents
    }
}

impl Documents {
    fn push(&mut self, core: &mut Core, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over {
            if let Some(arriving) = &mut self.arriving {
                let taken = arriving.push(core.shape(), bytes);
                bytes = bytes.get(taken..).unwrap_or_default();
                if arriving.is_over() {
                    self.end(core);
                }
                continue;
            }
            // Documents are told apart by nothing, blanks, or a record separator (RFC 7464).
            let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x1e;
            let blanks = bytes.iter().take_while(|byte| blank(byte)).count();
            bytes = bytes.get(blanks..).unwrap_or_default();
            match bytes.first() {
                Some(b'{') => self.arriving = Some(Box::new(core.arriving())),
                Some(_) => self.is_over = true,
                None => {}
            }
        }
    }

    fn end(&mut self, core: &mut Core) {
        if let Some(outline) = self.arriving.take().and_then(|arriving| arriving.finish(core.shape())) {
            self.count += 1;
            core.document(&[], outline);
        }
    }

    fn finish(&mut self, core: &mut Core) -> bool {
        self.end(core);
        self.count > 0
    }
}
