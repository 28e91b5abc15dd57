//! The clock that the books followed was wrong, and an operator has said so.

use super::living::Living;
use super::state::State;
use crate::window::AT_MS_MAX;

impl State {
    /// Time goes back: what runs now are the windows that hold the moment `to_ms`, with what was counted in them. Walks over all
    /// accounts: what was over by the wrong clock must not run again by the right one.
    pub fn set_clock(&mut self, to_ms: i64) {
        for index in 0..self.accounts.given() {
            self.tidy(self.accounts.nth(index));
        }
        let was_s = self.now_s();
        self.now_ms = to_ms.clamp(0, AT_MS_MAX);
        let mut ends = Vec::with_capacity(self.calendars.len());
        for calendar in &mut self.calendars {
            let end_s = calendar.stretch.end_s;
            calendar.stretch = calendar.window.stretch(&calendar.zone, self.now_ms);
            ends.push((end_s, calendar.stretch.end_s));
        }
        let instances: Vec<_> = self.instances.iter().map(|(place, _)| place).collect();
        for place in instances {
            if let Some(instance) = self.instances.get_mut(place)
                && instance.stretch.end_s > was_s
                && let Some(calendar) = self.calendars.get(usize::from(instance.calendar))
            {
                instance.stretch = calendar.stretch;
            }
        }
        // An account that lived until a window's end lives until the ends of those that run now, of that one and of those that
        // ended before it: which of them ends last is another question than it was.
        let now = |until_s: i64| match until_s {
            i64::MAX => until_s,
            _ => {
                let others = ends.iter().filter(|(end_s, _)| *end_s <= until_s);
                others.map(|(_, now_s)| *now_s).max().unwrap_or(until_s)
            }
        };
        let today = self.today();
        for index in 0..self.accounts.given() {
            let Some(account) = self.accounts.get_mut(self.accounts.nth(index)) else {
                continue;
            };
            account.until_s = now(account.until_s);
            for slot in account.slots.as_mut_slice() {
                slot.bound_day = slot.bound_day.min(today);
            }
        }
        self.living = Default::default();
        self.count_living();
        debug_assert!(
            self.living
                .iter()
                .map(Living::next_end_s)
                .all(|end_s| end_s > self.now_s())
        );
    }
}
