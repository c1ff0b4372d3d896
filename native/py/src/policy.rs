//! Rules written in Python as the engine's [`Policy`]: one call for each thing that a hook is about, none for
//! hooks without rules.

use pyo3::prelude::*;
use pyserver_proto::query::InformationModel;
use pyserver_server::policy::{Hook, Origin, Policy, Ruling, Verdict};
use pyserver_store::held::Received;

use crate::instance::Instance;

/// Status of an object whose rules broke down: Processing failure (PS3.7 annex C.5.13).
const FAILED: u16 = 0x0110;

/// What `import_object` gives back when it decides otherwise than to store: kind, status, reason, device,
/// whether it is stored in the compression that it has, and work to queue.
type Decision = (String, u16, String, Option<u16>, bool, Vec<Vec<u8>>);

/// An object with the attribute `hooks` and the methods `import_object`, `rule` and `association_ended`.
pub struct PyPolicy {
    rules: Py<PyAny>,
    hooks: Vec<Hook>,
}

impl PyPolicy {
    /// Wraps it; `hooks` of the object names those that it has rules for.
    pub fn new(py: Python<'_>, rules: Py<PyAny>) -> PyResult<Self> {
        let names: Vec<String> = rules.bind(py).getattr("hooks")?.extract()?;
        let hooks = Hook::ALL.into_iter();
        let hooks = hooks.filter(|hook| names.iter().any(|name| name == hook.name()));
        Ok(Self {
            hooks: hooks.collect(),
            rules,
        })
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
                as_it_is: false,
                jobs: Vec::new(),
            };
            return Ok((object, verdict));
        }
        let (kind, status, why, device, as_it_is, jobs): Decision = answer.extract()?;
        let verdict = match kind.as_str() {
            "store" => Verdict::Store {
                device,
                as_it_is,
                jobs,
            },
            "discard" => Verdict::Discard,
            _ => Verdict::Refuse { status, why },
        };
        Ok((object, verdict))
    }

    fn ask_servers(
        &self,
        py: Python<'_>,
        method: &str,
        identifier: Received,
        model: InformationModel,
        origin: &Origin,
    ) -> PyResult<Py<PyAny>> {
        let instance = Py::new(py, Instance::new(identifier))?;
        let arguments = (
            instance,
            model_name(model),
            &origin.calling_ae,
            &origin.called_ae,
            &origin.association,
        );
        let answer = self.rules.bind(py).call_method1(method, arguments)?;
        Ok(answer.unbind())
    }

    fn ask_about(
        &self,
        py: Python<'_>,
        hook: Hook,
        object: Received,
        origin: &Origin,
        about: &str,
    ) -> PyResult<(Option<Received>, Ruling)> {
        let instance = Py::new(py, Instance::new(object))?;
        let answer = self.rules.bind(py).call_method1(
            pyo3::intern!(py, "rule"),
            (
                hook.name(),
                instance.clone_ref(py),
                &origin.calling_ae,
                &origin.called_ae,
                &origin.association,
                about,
            ),
        )?;
        let object = instance.get().take();
        let (what, why): (String, String) = answer.extract()?;
        Ok((object, ruling(&what, why)))
    }
}

/// What `convert::model` reads.
const fn model_name(model: InformationModel) -> &'static str {
    match model {
        InformationModel::PatientRoot => "patient",
        InformationModel::StudyRoot | InformationModel::ModalityWorklist => "study",
        InformationModel::PatientStudyOnly => "patient-study",
    }
}

/// `keep`, `drop`, `retry`; anything else is a failure.
pub fn ruling(what: &str, why: String) -> Ruling {
    match what {
        "keep" => Ruling::Keep,
        "drop" => Ruling::Drop,
        "retry" => Ruling::Retry,
        _ => Ruling::Failed(why),
    }
}

impl Policy for PyPolicy {
    fn has(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    fn rule(
        &self,
        hook: Hook,
        object: Received,
        origin: &Origin,
        about: &str,
    ) -> (Option<Received>, Ruling) {
        Python::attach(|py| {
            self.ask_about(py, hook, object, origin, about)
                .unwrap_or_else(|error| {
                    (None, Ruling::Failed(format!("the rules failed: {error}")))
                })
        })
    }

    fn import(&self, object: Received, origin: &Origin) -> (Option<Received>, Verdict) {
        Python::attach(|py| {
            self.ask(py, object, origin).unwrap_or_else(|error| {
                let why = format!("the rules failed: {error}");
                let status = FAILED;
                (None, Verdict::Refuse { status, why })
            })
        })
    }

    fn elsewhere(
        &self,
        identifier: Received,
        model: InformationModel,
        origin: &Origin,
    ) -> Vec<Received> {
        Python::attach(|py| {
            let found = self.ask_servers(py, "elsewhere", identifier, model, origin);
            let answers = found.and_then(|found| {
                let answers: Vec<Py<Instance>> = found.extract(py)?;
                Ok(answers.iter().filter_map(|a| a.get().take()).collect())
            });
            answers.unwrap_or_else(|error| {
                error.write_unraisable(py, None);
                Vec::new()
            })
        })
    }

    fn bring(&self, identifier: Received, model: InformationModel, origin: &Origin) {
        Python::attach(|py| {
            if let Err(error) = self.ask_servers(py, "bring", identifier, model, origin) {
                error.write_unraisable(py, None);
            }
        });
    }

    /// Python makes what it keeps for a thread anew with each call unless the thread has it already.
    fn around(&self, association: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(association));
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
