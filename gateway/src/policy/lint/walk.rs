//! The ways through a tree that are the same for whoever reads it: in the order in which it is written, scope by scope.

use super::tree::{Act, Block, Expression};

pub(super) trait Walk {
    /// A scope begins.
    fn enter(&mut self);

    /// The scope that began last ends.
    fn leave(&mut self);

    fn act(&mut self, act: &Act);

    fn expression(&mut self, expression: &Expression);

    fn expressions(&mut self, all: &[Expression]) {
        all.iter().for_each(|one| self.expression(one));
    }

    /// What an expression is made of, where nothing but that counts.
    fn parts(&mut self, of: &Expression) {
        of.parts().into_iter().for_each(|part| self.expression(part));
    }

    /// The statements of a block, in the scope that there is.
    fn statements(&mut self, block: &Block) {
        block.statements.iter().for_each(|statement| self.act(&statement.kind));
    }

    fn block(&mut self, block: &Block) {
        self.enter();
        self.statements(block);
        self.leave();
    }

    /// Branches and loops without names of their own; of other statements nothing.
    fn flow(&mut self, act: &Act) {
        match act {
            Act::Do(block) => self.block(block),
            Act::While(condition, block) => {
                self.expression(condition);
                self.block(block);
            }
            Act::Repeat(block, condition) => {
                // The condition sees the names of the block.
                self.enter();
                self.statements(block);
                self.expression(condition);
                self.leave();
            }
            Act::If { arms, otherwise, .. } => {
                for (_, condition, block) in arms {
                    self.expression(condition);
                    self.block(block);
                }
                if let Some((_, block)) = otherwise {
                    self.block(block);
                }
            }
            _ => {}
        }
    }
}
