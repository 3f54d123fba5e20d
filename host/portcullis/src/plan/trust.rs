//! Whose signature a module needs: `verification` of the Proxy, which concerns every filter, and of a filter itself.
//!
//! Neither can lift what the other demands: the operator's keys and the author's are asked for one after the other. Keys
//! are read here, signatures never.

use std::sync::Arc;

use portcullis_vm::Module;

use super::desk::Desk;
use super::{ModuleError, ModuleRequest};
use crate::diagnose::Code;
use crate::signature::{PublicKey, Trust};
use crate::spec::own::VerificationSpec;
use crate::spec::{Document, Object};

/// Who has to vouch for a module: somebody of each group of keys.
#[derive(Clone, Default)]
pub(super) struct Demands {
    required: Vec<Trust>,
    /// What lacks these runs, with a warning.
    wished: Vec<Trust>,
}

impl Demands {
    /// What a Proxy demands of every module.
    pub fn of_proxy(proxy: Option<&Document>, desk: &mut Desk<'_>) -> Demands {
        let mut demands = Demands::default();
        if let Some(document) = proxy
            && let Some(Object::Proxy(spec)) = &document.object
        {
            demands.add(document, spec.verification.as_ref(), desk);
        }
        demands
    }

    /// These, and what a filter's own document demands.
    pub fn with(
        &self,
        document: &Document,
        spec: Option<&VerificationSpec>,
        desk: &mut Desk<'_>,
    ) -> Demands {
        let mut demands = self.clone();
        demands.add(document, spec, desk);
        if let Some(Object::WasmPlugin(plugin)) = &document.object
            && let Some(key) = plugin.verification_key.as_deref().filter(|key| !key.is_empty())
        {
            let field = "spec.verificationKey";
            let keys = keys(document, field, key.as_bytes(), desk).unwrap_or_default().into();
            demands.required.push(Trust { keys, named: field.to_owned() });
        }
        demands
    }

    /// Whether keys are missing here that a document names. What is wrong with them is told there.
    pub fn are_incomplete(&self) -> bool {
        self.required.iter().chain(&self.wished).any(|trust| trust.keys.is_empty())
    }

    /// The module, and its address with a digest where it has none, if those vouch for it that have to; those that need
    /// not, and do not, are a warning.
    pub fn fetch(
        &self,
        document: &Document,
        request: ModuleRequest<'_>,
        desk: &mut Desk<'_>,
    ) -> Result<(Arc<Module>, Option<String>), ModuleError> {
        let all: Vec<Trust> = self.required.iter().chain(&self.wished).cloned().collect();
        let strict = ask(&ModuleRequest { trust: &all, ..request }, desk);
        let distrusted = match &strict {
            Err(ModuleError::Fetch { code, title, cause, .. }) if *code == Code::P0213 => {
                document.problem(*code, "spec.url", title).because(cause).warning()
            }
            _ => return strict,
        };
        if self.wished.is_empty() {
            return strict;
        }
        let found = ask(&ModuleRequest { trust: &self.required, ..request }, desk)?;
        desk.problems.push(distrusted.hint("it runs, since `required` is false"));
        Ok(found)
    }

    fn add(&mut self, document: &Document, spec: Option<&VerificationSpec>, desk: &mut Desk<'_>) {
        let Some(spec) = spec else { return };
        let field = "spec.verification.publicKeyFiles";
        if spec.public_key_files.is_empty() {
            let title = "without a key, no signature can be right";
            let problem = document.problem(Code::P0111, field, title);
            desk.problems.push(problem.hint("name the files of public keys, such as cosign.pub"));
        }
        let files = spec.public_key_files.iter().enumerate().map(|(index, file)| {
            let field = format!("{field}[{index}]");
            let pem = desk.file(document, &field, file)?;
            keys(document, &field, &pem, desk)
        });
        // Of all files or of none: a key that is missing might be the one.
        let known = files.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>();
        let keys = known.unwrap_or_default().concat().into();
        let trust = Trust { keys, named: spec.public_key_files.join(", ") };
        match spec.required.unwrap_or(true) {
            true => self.required.push(trust),
            false => self.wished.push(trust),
        }
    }
}

fn ask(
    request: &ModuleRequest<'_>,
    desk: &Desk<'_>,
) -> Result<(Arc<Module>, Option<String>), ModuleError> {
    let module = desk.modules.module(request)?;
    Ok((module, desk.modules.pinned(request)))
}

fn keys(
    document: &Document,
    field: &str,
    pem: &[u8],
    desk: &mut Desk<'_>,
) -> Option<Vec<PublicKey>> {
    match PublicKey::read(pem) {
        Ok(keys) => Some(keys),
        Err(error) => {
            let problem = document.problem(Code::P0214, field, "this is no public key to use");
            let hint = "a public key in PEM, such as cosign.pub of `cosign generate-key-pair`";
            desk.refuse(problem.because(error.to_string()).hint(hint))
        }
    }
}
