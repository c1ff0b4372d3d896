//! `Forwarder`: objects sent on over one association.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyMapping;
use pyserver_proto::association::Limits;
use pyserver_proto::uid::Uid;
use pyserver_server::forward::{ForwardError, Forwarder as Link};
use pyserver_server::scu::Caller;

use crate::client::destination;
use crate::codecs::PyCodecPool;
use crate::errors::{self, PeerError, PeerUnavailable, config};
use crate::instance::Instance;

/// An association to one peer, opened by `connect`.
#[pyclass(module = "pyserver._native", frozen)]
pub struct Forwarder {
    link: Mutex<Link>,
}

fn seconds(what: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| config(format!("{what}: {error}")))
}

fn uids(texts: &[String]) -> PyResult<Vec<Uid>> {
    let uid = |text: &String| {
        text.parse()
            .map_err(|error| config(format!("{text}: {error}")))
    };
    texts.iter().map(uid).collect()
}

#[pymethods]
impl Forwarder {
    /// Prepare; nothing is connected yet.
    #[new]
    fn new(
        peer: &Bound<'_, PyMapping>,
        calling_ae: String,
        connect_timeout_s: f64,
        timeout_s: f64,
    ) -> PyResult<Self> {
        let caller = Caller {
            calling_ae,
            connect_timeout: seconds("connect_timeout_s", connect_timeout_s)?,
            dimse_timeout: seconds("timeout_s", timeout_s)?,
            limits: Limits::default(),
        };
        let link = Link::new(caller, destination(peer)?);
        Ok(Self {
            link: Mutex::new(link),
        })
    }

    /// Open an association for these SOP classes.
    fn connect(
        &self,
        py: Python<'_>,
        sop_classes: Vec<String>,
        transfer_syntaxes: Vec<String>,
    ) -> PyResult<()> {
        let (classes, syntaxes) = (uids(&sop_classes)?, uids(&transfer_syntaxes)?);
        py.detach(|| self.link.lock().connect(&classes, &syntaxes))
            .map_err(|error| errors::link(&error))
    }

    /// The first of these transfer syntaxes that the peer accepted for a SOP class; None: none of them.
    fn accepted(
        &self,
        sop_class: &str,
        transfer_syntaxes: Vec<String>,
    ) -> PyResult<Option<String>> {
        let class = sop_class
            .parse()
            .map_err(|error| config(format!("{sop_class}: {error}")))?;
        let syntaxes = uids(&transfer_syntaxes)?;
        let found = self.link.lock().accepted(class, &syntaxes);
        Ok(found.map(|uid| uid.to_string()))
    }

    /// Whether there is an association.
    #[getter]
    fn is_open(&self) -> bool {
        self.link.lock().is_open()
    }

    /// Send an object: the peer's status and comment. With `codecs`, also in a compression that it is not
    /// in.
    #[pyo3(signature = (instance, transfer_syntaxes, codecs=None, quality=95))]
    fn send(
        &self,
        py: Python<'_>,
        instance: &Instance,
        transfer_syntaxes: Vec<String>,
        codecs: Option<&PyCodecPool>,
        quality: u8,
    ) -> PyResult<(u16, String)> {
        let syntaxes = uids(&transfer_syntaxes)?;
        let pool = codecs.map(PyCodecPool::pool);
        let codecs = pool.as_deref().map(|pool| (pool, quality));
        py.detach(|| {
            let mut link = self.link.lock();
            instance.with(|object| {
                let answered =
                    link.send(object, &syntaxes, codecs)
                        .map_err(|error| match error {
                            ForwardError::Link(error) => {
                                PeerUnavailable::new_err(error.to_string())
                            }
                            ForwardError::Object(why) => PeerError::new_err(why),
                        })?;
                Ok((answered.status, answered.comment))
            })
        })
    }

    /// End the association: released, or the connection dropped.
    #[pyo3(signature = (release=true))]
    fn close(&self, py: Python<'_>, release: bool) {
        py.detach(|| self.link.lock().close(release));
    }
}
