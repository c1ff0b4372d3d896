//! Rules written in Python about files of a rebuild.

use std::path::Path;

use pyo3::prelude::*;
use pyserver_server::policy::Ruling;
use pyserver_store::held::Received;
use pyserver_store::regen_rules::{RegenRules, Seen};

use crate::instance::Instance;
use crate::policy::ruling;

/// The rules of an object with the attribute `hooks` and the method `regen`.
pub fn regen_rules(py: Python<'_>, rules: Py<PyAny>) -> PyResult<RegenRules> {
    let names: Vec<String> = rules.bind(py).getattr("hooks")?.extract()?;
    let has = |name: &str| names.iter().any(|known| known == name);
    let (sees_files, sees_failures) = (has("Regen"), has("RegenFail"));
    let ask = move |seen: Seen, object: Received, path: &Path| {
        let hook = match seen {
            Seen::File => "Regen",
            Seen::Refused => "RegenFail",
        };
        Python::attach(|py| {
            let answer = ask(py, &rules, hook, object, path);
            answer.unwrap_or_else(|error| (None, Ruling::Failed(error.to_string())))
        })
    };
    Ok(RegenRules {
        sees_files,
        sees_failures,
        ask: Box::new(move |seen, object, path| match ask(seen, object, path) {
            (_, Ruling::Failed(why)) => Err(why),
            (_, Ruling::Drop) => Ok(None),
            (object, _) => Ok(object),
        }),
    })
}

fn ask(
    py: Python<'_>,
    rules: &Py<PyAny>,
    hook: &str,
    object: Received,
    path: &Path,
) -> PyResult<(Option<Received>, Ruling)> {
    let instance = Py::new(py, Instance::new(object))?;
    let answer = rules.bind(py).call_method1(
        pyo3::intern!(py, "regen"),
        (hook, instance.clone_ref(py), path),
    )?;
    let object = instance.get().take();
    let (what, why): (String, String) = answer.extract()?;
    Ok((object, ruling(&what, why)))
}
