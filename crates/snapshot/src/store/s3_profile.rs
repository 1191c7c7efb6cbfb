//! The access key and region of an AWS profile: `~/.aws/credentials` and `~/.aws/config`, as every tool of Amazon's reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use object_store::aws::AmazonS3Builder;

/// The settings of one profile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile(BTreeMap<String, String>);

impl Profile {
    /// A builder with what the profile says.
    pub(super) fn apply(&self, mut builder: AmazonS3Builder) -> AmazonS3Builder {
        let value = |name: &str| self.0.get(name).cloned();
        if let (Some(id), Some(secret)) = (value("aws_access_key_id"), value("aws_secret_access_key")) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = value("aws_session_token") {
                builder = builder.with_token(token);
            }
        }
        match value("region") {
            Some(region) => builder.with_region(region),
            None => builder,
        }
    }
}

/// The profile that the variables name, or `default`. `None` where no file has it.
pub(super) fn read<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<Profile> {
    let name = variable("AWS_PROFILE").unwrap_or("default");
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let file = |set: &str, usual: &str| match variable(set) {
        Some(path) => Some(PathBuf::from(path)),
        None => home.as_ref().map(|home| home.join(".aws").join(usual)),
    };
    let text = |path: Option<PathBuf>| std::fs::read_to_string(path?).ok();
    let mut settings = BTreeMap::new();
    if let Some(config) = text(file("AWS_CONFIG_FILE", "config")) {
        settings.extend(section(&config, &[name, &format!("profile {name}")]));
    }
    if let Some(credentials) = text(file("AWS_SHARED_CREDENTIALS_FILE", "credentials")) {
        settings.extend(section(&credentials, &[name]));
    }
    (!settings.is_empty()).then_some(Profile(settings))
}

/// The settings of the sections with these names.
fn section(text: &str, names: &[&str]) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = names.contains(&header.trim());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_both_files_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let (config, credentials) = (folder.path().join("config"), folder.path().join("credentials"));
        std::fs::write(
            &config,
            "[default]\nregion = us-east-2\n[profile etl]\n# ours\nregion = eu-west-1\n",
        )
        .unwrap();
        std::fs::write(
            &credentials,
            "[etl]\naws_access_key_id=AK\naws_secret_access_key = S=\n[default]\naws_access_key_id=NO\n",
        )
        .unwrap();
        let (config, credentials) = (config.to_str().unwrap(), credentials.to_str().unwrap());
        let variable = |name: &str| match name {
            "AWS_PROFILE" => Some("etl"),
            "AWS_CONFIG_FILE" => Some(config),
            "AWS_SHARED_CREDENTIALS_FILE" => Some(credentials),
            _other => None,
        };
        let expected = [
            ("aws_access_key_id", "AK"),
            ("aws_secret_access_key", "S="),
            ("region", "eu-west-1"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read(variable), Some(Profile(expected.into())));
        let nobody = |name: &str| {
            if name == "AWS_PROFILE" {
                Some("nobody")
            } else {
                variable(name)
            }
        };
        assert_eq!(read(nobody), None);
    }
}
