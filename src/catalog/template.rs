//! Pages and extra parameters with macros (contract E16-E18), compiled when the catalog is loaded.

/// A URL or a parameter's value with macros in it.
#[derive(Clone, Debug)]
pub struct Template {}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTemplate(pub String);

impl Template {
    /// A landing page: an absolute URL; macros only in path, query and fragment.
    pub fn page(_text: &str, _allow_http: bool) -> Result<Template, BadTemplate> {
        unimplemented!()
    }

    /// The page with every macro empty, for rejected clicks (contract E24).
    pub fn plain(&self) -> String {
        unimplemented!()
    }

    /// The value of an extra parameter.
    pub fn parameter(_text: &str) -> Result<Template, BadTemplate> {
        unimplemented!()
    }
}
