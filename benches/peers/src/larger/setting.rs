//! With what setting a store finds as much as is wanted, while there is enough memory.

use crate::Result;
use crate::input::Input;
use crate::search::child::{Answers, Child, Opened};

/// Settings that are tried between the last that finds too little and the first that does not.
const HALVINGS: usize = 4;

/// A setting of a store's knob, and what came of it.
pub struct Setting {
    pub knob: String,
    pub answers: Answers,
}

/// Finds about the least setting with a recall. If no setting has it: the store's own choice, or
/// the setting with the highest recall. No pass asks for longer than so many seconds.
///
/// # Errors
/// What the process says.
pub fn find(
    child: &mut Child,
    input: &Input,
    opened: &Opened,
    recall: f64,
    seconds: f64,
) -> Result<Setting> {
    let mut pass = |knob: String| -> Result<Setting> {
        child.warm_up(&knob)?;
        let answers = child.ask(input, &knob, 0, input.queries.len(), seconds)?;
        Ok(Setting { knob, answers })
    };
    let (mut below, mut best): (Option<usize>, Option<Setting>) = (None, None);
    for knob in opened.knobs.iter().filter(|knob| *knob != "default") {
        let setting = pass(knob.clone())?;
        if setting.answers.recall >= recall {
            return halve(pass, below, setting, recall);
        }
        below = Some(knob.parse()?);
        let least = best.as_ref().map_or(0.0, |best| best.answers.recall);
        if best.is_none() || setting.answers.recall > least {
            best = Some(setting);
        }
    }
    if opened.knobs.iter().any(|knob| knob == "default") {
        return pass("default".to_owned());
    }
    best.ok_or_else(|| "the store has no settings".into())
}

fn halve(
    mut pass: impl FnMut(String) -> Result<Setting>,
    below: Option<usize>,
    mut above: Setting,
    recall: f64,
) -> Result<Setting> {
    let Some(mut below) = below else { return Ok(above) };
    for _ in 0..HALVINGS {
        let middle = (below as f64 * above.knob.parse::<f64>()?).sqrt() as usize;
        if middle <= below {
            break;
        }
        let setting = pass(middle.to_string())?;
        if setting.answers.recall >= recall {
            above = setting;
        } else {
            below = middle;
        }
    }
    Ok(above)
}
