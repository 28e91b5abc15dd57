//! Time zones by name, kept per VM: a look-up in the zone database must not happen on each call.

use std::cell::RefCell;

use agentledger_ledger::Zone;
use jiff::Timestamp;

/// Zones that one VM remembers; a policy that asks for more has made names up.
const ZONES_MAX: usize = 600;

#[derive(Default)]
pub(super) struct Zones {
    /// By the names that were asked for, which may be other spellings of the zone's own.
    known: RefCell<Vec<(Box<str>, Zone)>>,
}

impl Zones {
    /// The zone of that name; empty is UTC.
    pub(super) fn named(&self, name: &str) -> Result<Zone, String> {
        if let Some((_, zone)) = self.known.borrow().iter().find(|(known, _)| &**known == name) {
            return Ok(zone.clone());
        }
        let unknown = || format!("unknown time zone {:?}", name.chars().take(64).collect::<String>());
        let zone = Zone::named(name).map_err(|_| unknown())?;
        let mut known = self.known.borrow_mut();
        if known.len() >= ZONES_MAX {
            return Err(format!("more than {ZONES_MAX} time zones"));
        }
        known.push((name.into(), zone.clone()));
        Ok(zone)
    }
}

/// Calendar fields of a moment; weekday 1 is Monday, 7 Sunday.
pub(super) struct Moment {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    pub hour: i8,
    pub minute: i8,
    pub second: i8,
    pub weekday: i8,
}

impl Moment {
    pub(super) fn of(at_ms: i64, zone: &Zone) -> Result<Moment, String> {
        let at = Timestamp::from_millisecond(at_ms).map_err(|_| "the time is out of range".to_owned())?;
        let there = zone.rules().to_datetime(at);
        Ok(Moment {
            year: there.year(),
            month: there.month(),
            day: there.day(),
            hour: there.hour(),
            minute: there.minute(),
            second: there.second(),
            weekday: there.weekday().to_monday_one_offset(),
        })
    }
}
