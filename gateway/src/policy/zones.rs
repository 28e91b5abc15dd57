//! Time zones by name, kept per VM: a look-up in the zone database must not happen on each call.

use std::cell::RefCell;

use agentledger_ledger::Name;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Zones that one VM remembers; a policy that asks for more has made names up.
const ZONES_MAX: usize = 600;

#[derive(Default)]
pub(super) struct Zones {
    known: RefCell<Vec<(Name, TimeZone)>>,
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

impl Zones {
    /// The zone's name, shared, once it is known to exist. Empty is UTC.
    pub(super) fn name(&self, zone: &str) -> Result<Name, String> {
        let zone = if zone.is_empty() { "UTC" } else { zone };
        if let Some((name, _)) = self.known.borrow().iter().find(|(name, _)| &**name == zone) {
            return Ok(Name::clone(name));
        }
        let unknown = || format!("unknown time zone {:?}", zone.chars().take(64).collect::<String>());
        let found = if zone == "UTC" {
            TimeZone::UTC
        } else {
            TimeZone::get(zone).map_err(|_| unknown())?
        };
        let mut known = self.known.borrow_mut();
        if known.len() >= ZONES_MAX {
            return Err(format!("more than {ZONES_MAX} time zones"));
        }
        let name: Name = zone.into();
        known.push((Name::clone(&name), found));
        Ok(name)
    }

    pub(super) fn moment(&self, at_ms: i64, zone: &str) -> Result<Moment, String> {
        let known = self.known.borrow();
        let zone = known.iter().find(|(name, _)| &**name == zone).map(|(_, zone)| zone);
        let at = Timestamp::from_millisecond(at_ms).map_err(|_| "the time is out of range".to_owned())?;
        let there = at.to_zoned(zone.cloned().unwrap_or(TimeZone::UTC)).datetime();
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
