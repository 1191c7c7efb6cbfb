//! What `#[state(..)]` says on a type, a variant or a field.

use syn::ext::IdentExt;
use syn::{Attribute, Ident, LitStr, Path, PathSegment, Token, parse_quote};

/// The name of the helper attribute.
const STATE: &str = "state";

/// The path under which the generated code finds the modules `state` and `row` of streamd-core: the argument of
/// `crate`, else the place where the SDK re-exports them.
pub(crate) fn home(attributes: &[Attribute]) -> syn::Result<Path> {
    let mut home = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(STATE)) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown attribute of a state type: expected `crate = \"path\"`"));
            }
            home = Some(rooted(meta.value()?.parse::<LitStr>()?.parse()?));
            Ok(())
        })?;
    }
    Ok(home.unwrap_or_else(|| parse_quote!(::streamd::__private)))
}

/// The name in snapshots of a field or variant: the argument of `rename`, else its Rust name.
pub(crate) fn stored_name(attributes: &[Attribute], rust_name: &str) -> syn::Result<String> {
    let mut name = rust_name.to_owned();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(STATE)) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("rename") {
                return Err(meta.error("unknown attribute of a state field: expected `rename = \"name\"`"));
            }
            let literal: LitStr = meta.value()?.parse()?;
            name = literal.value();
            if name.is_empty() {
                return Err(syn::Error::new(literal.span(), "the stored name is empty"));
            }
            Ok(())
        })?;
    }
    Ok(name)
}

/// An identifier as people write it, without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The path, made absolute unless it begins in the crate at hand: a module of the user's that happens to have the
/// crate's name must not capture it.
fn rooted(mut path: Path) -> Path {
    let local = |segment: &PathSegment| ["crate", "self", "super"].iter().any(|word| segment.ident == word);
    if path.segments.first().is_some_and(|first| !local(first)) {
        path.leading_colon = Some(<Token![::]>::default());
    }
    path
}
