//! Rules written in Python as the engine's [`Policy`]: one call for each object, none for anything else.

use pyo3::prelude::*;
use pyserver_server::policy::{Origin, Policy, Verdict};
use pyserver_store::held::Received;

use crate::instance::Instance;

/// Status of an object whose rules broke down: Processing failure (PS3.7 annex C.5.13).
const FAILED: u16 = 0x0110;

/// What `import_object` gives back when it decides otherwise than to store: kind, status, reason, device
/// and work to queue.
type Decision = (String, u16, String, Option<u16>, Vec<Vec<u8>>);

/// An object with the methods `import_object` and `association_ended`.
pub struct PyPolicy {
    rules: Py<PyAny>,
}

impl PyPolicy {
    /// Wraps it.
    pub fn new(rules: Py<PyAny>) -> Self {
        Self { rules }
    }

    fn ask(
        &self,
        py: Python<'_>,
        object: Received,
        origin: &Origin,
    ) -> PyResult<(Option<Received>, Verdict)> {
        let instance = Py::new(py, Instance::new(object))?;
        let answer = self.rules.bind(py).call_method1(
            pyo3::intern!(py, "import_object"),
            (
                instance.clone_ref(py),
                &origin.calling_ae,
                &origin.called_ae,
                &origin.association,
            ),
        )?;
        let object = instance.get().take();
        if answer.is_none() {
            let verdict = Verdict::Store {
                device: None,
                jobs: Vec::new(),
            };
            return Ok((object, verdict));
        }
        let (kind, status, why, device, jobs): Decision = answer.extract()?;
        let verdict = match kind.as_str() {
            "store" => Verdict::Store { device, jobs },
            "discard" => Verdict::Discard,
            _ => Verdict::Refuse { status, why },
        };
        Ok((object, verdict))
    }
}

impl Policy for PyPolicy {
    fn import(&self, object: Received, origin: &Origin) -> (Option<Received>, Verdict) {
        Python::attach(|py| {
            self.ask(py, object, origin).unwrap_or_else(|error| {
                let why = format!("the rules failed: {error}");
                let status = FAILED;
                (None, Verdict::Refuse { status, why })
            })
        })
    }

    fn ended(&self, association: &str) {
        Python::attach(|py| {
            let name = pyo3::intern!(py, "association_ended");
            if let Err(error) = self.rules.bind(py).call_method1(name, (association,)) {
                error.write_unraisable(py, None);
            }
        });
    }
}
