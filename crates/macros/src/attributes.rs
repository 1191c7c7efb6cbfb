//! What `#[state(..)]` says on a type, a variant or a field.

use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, Ident, LitStr, Path, PathSegment, Token, parse_quote};

/// The name of the helper attribute.
const STATE: &str = "state";

/// What the attributes of a type say.
pub(crate) struct TypeAttributes {
    /// The path under which the generated code finds the modules of streamd-core: the argument of `crate`, else the place
    /// where the SDK re-exports them.
    pub(crate) home: Path,
    /// Functions that make the type out of older ones.
    pub(crate) migrations: Vec<Expr>,
}

/// What the attributes of a field or variant say.
#[derive(Default)]
pub(crate) struct NameAttributes {
    /// Its name in snapshots, if that is not its Rust name.
    rename: Option<String>,
    /// Names that it had in older snapshots.
    pub(crate) aliases: Vec<String>,
    /// Its value where an older snapshot has none.
    pub(crate) default: Option<DefaultValue>,
}

/// The value of a field that an older snapshot does not have.
pub(crate) enum DefaultValue {
    /// That of `Default`.
    OfType,
    /// What this expression yields.
    Expression(Box<Expr>),
}

/// Reads the attributes of a type.
pub(crate) fn of_type(attributes: &[Attribute]) -> syn::Result<TypeAttributes> {
    let (mut home, mut migrations) = (None, Vec::new());
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(STATE)) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("crate") {
                home = Some(rooted(meta.value()?.parse::<LitStr>()?.parse()?));
            } else if meta.path.is_ident("migrate") {
                migrations.push(meta.value()?.parse()?);
            } else {
                return Err(meta
                    .error("unknown attribute of a state type: expected `crate = \"path\"` or `migrate = function`"));
            }
            Ok(())
        })?;
    }
    Ok(TypeAttributes {
        home: home.unwrap_or_else(|| parse_quote!(::streamd::__private)),
        migrations,
    })
}

/// Reads the attributes of a field.
pub(crate) fn of_field(attributes: &[Attribute]) -> syn::Result<NameAttributes> {
    const UNKNOWN: &str = "unknown attribute of a state field: expected `rename = \"name\"`, `alias = \"name\"`, \
                           `default` or `default = value`";
    of_name(attributes, UNKNOWN, |read, meta| {
        if !meta.path.is_ident("default") {
            return Ok(false);
        }
        read.default = Some(match meta.input.peek(Token![=]) {
            true => DefaultValue::Expression(Box::new(meta.value()?.parse()?)),
            false => DefaultValue::OfType,
        });
        Ok(true)
    })
}

/// Reads the attributes of a variant.
pub(crate) fn of_variant(attributes: &[Attribute]) -> syn::Result<NameAttributes> {
    const UNKNOWN: &str = "unknown attribute of a state variant: expected `rename = \"name\"` or `alias = \"name\"`";
    of_name(attributes, UNKNOWN, |_read, _meta| Ok(false))
}

fn of_name(
    attributes: &[Attribute],
    unknown: &str,
    other: impl Fn(&mut NameAttributes, &ParseNestedMeta<'_>) -> syn::Result<bool>,
) -> syn::Result<NameAttributes> {
    let mut read = NameAttributes::default();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(STATE)) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                read.rename = Some(name(&meta)?);
            } else if meta.path.is_ident("alias") {
                read.aliases.push(name(&meta)?);
            } else if !other(&mut read, &meta)? {
                return Err(meta.error(unknown));
            }
            Ok(())
        })?;
    }
    Ok(read)
}

fn name(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let literal: LitStr = meta.value()?.parse()?;
    match literal.value() {
        empty if empty.is_empty() => Err(syn::Error::new(literal.span(), "the stored name is empty")),
        name => Ok(name),
    }
}

impl NameAttributes {
    /// The name in snapshots: the argument of `rename`, else the Rust name.
    pub(crate) fn stored_name(&mut self, rust_name: &str) -> String {
        self.rename.take().unwrap_or_else(|| rust_name.to_owned())
    }
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
