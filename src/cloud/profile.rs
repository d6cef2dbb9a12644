//! Keys of S3 in the files that Amazon's tools write: `~/.aws/credentials` and `~/.aws/config`, by the profile that `AWS_PROFILE`
//! names, or `default`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

const DEFAULT: &str = "default";
/// What a profile has that gets its keys from elsewhere.
const ELSEWHERE: [&str; 5] =
    ["sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file"];

type Section = BTreeMap<String, String>;

/// A profile: where it is said, and what.
#[derive(Debug)]
pub(super) struct Profile {
    name: String,
    credentials: Section,
    config: Section,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Profile {
    /// The one that the environment names; `None` where it names none and there is no default.
    ///
    /// Errors: one that is named and is not there.
    pub(super) fn of_environment() -> io::Result<Option<Self>> {
        let file = |variable_name: &str, name: &str| {
            variable(variable_name)
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".aws").join(name)))
        };
        let files =
            [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")].map(|path| {
                let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
                (path, text.unwrap_or_default())
            });
        let named = variable("AWS_PROFILE");
        let name = named.clone().unwrap_or_else(|| DEFAULT.into());
        let [(credentials_file, credentials), (config_file, config)] = files;
        let credentials = section(&credentials, &name);
        // the default alone stands in it without the word
        let config = section(&config, &format!("profile {name}"))
            .or_else(|| section(&config, &name).filter(|_| name == DEFAULT));
        if credentials.is_none() && config.is_none() {
            let shown = |path: Option<PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
            return match named {
                Some(name) => Err(io::Error::other(format!(
                    "AWS_PROFILE is '{name}', and neither {} nor {} has such a profile",
                    shown(credentials_file),
                    shown(config_file)
                ))),
                None => Ok(None),
            };
        }
        Ok(Some(Self { name, credentials: credentials.unwrap_or_default(), config: config.unwrap_or_default() }))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.credentials.get(name).or_else(|| self.config.get(name)).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The host that it names for buckets.
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.value("endpoint_url")
    }

    /// What the environment leaves open, from the profile.
    ///
    /// Errors: its keys come from elsewhere.
    pub(super) fn complete(&self, mut builder: AmazonS3Builder) -> io::Result<AmazonS3Builder> {
        use AmazonS3ConfigKey::{AccessKeyId, Endpoint, Region, SecretAccessKey, Token};
        let lacks = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_none();
        if lacks(&builder, Region)
            && let Some(region) = self.value("region")
        {
            builder = builder.with_config(Region, region);
        }
        if lacks(&builder, Endpoint)
            && let Some(endpoint) = self.endpoint()
        {
            builder = builder.with_config(Endpoint, endpoint);
        }
        let is_told = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ];
        if is_told.iter().any(|name| variable(name).is_some()) {
            return Ok(builder);
        }
        if let (Some(id), Some(secret)) = (self.value("aws_access_key_id"), self.value("aws_secret_access_key")) {
            builder = builder.with_config(AccessKeyId, id).with_config(SecretAccessKey, secret);
            if let Some(token) = self.value("aws_session_token") {
                builder = builder.with_config(Token, token);
            }
        } else if let Some(how) = ELSEWHERE.iter().find(|how| self.value(how).is_some()) {
            let name = &self.name;
            return Err(io::Error::other(format!(
                "the AWS profile '{name}' gets its keys from elsewhere ({how}): eval \"$(aws configure export-credentials --profile {name} \
                 --format env)\" puts them where they are read"
            )));
        }
        Ok(builder)
    }
}

/// `name = value`, a line each, below `[name]`.
fn section(text: &str, wanted: &str) -> Option<Section> {
    let (mut found, mut is_inside) = (None, false);
    for line in text.lines() {
        let plain = line.trim();
        if let Some(name) = plain.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_inside = name.split_whitespace().eq(wanted.split_whitespace());
            if is_inside {
                found.get_or_insert_with(Section::new);
            }
        } else if is_inside
            // what is set in belongs to the name above
            && !line.starts_with([' ', '\t', '#', ';'])
            && let (Some((name, value)), Some(found)) = (plain.split_once('='), found.as_mut())
        {
            found.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_as_amazons_tools_write_them() {
        let text = "# mine\n[default]\nregion=eu-west-1\n\n[profile  pets]\nregion = eu-central-1 \ns3 =\n  region = nested\n; no\n";
        assert_eq!(section(text, "default").unwrap()["region"], "eu-west-1");
        let pets = section(text, "profile pets").unwrap();
        assert_eq!((pets["region"].as_str(), pets["s3"].as_str()), ("eu-central-1", ""));
        assert!(section(text, "pets").is_none());
        let profile = |credentials: &str| Profile {
            name: "pets".into(),
            credentials: section(credentials, "pets").unwrap_or_default(),
            config: pets.clone(),
        };
        let builder = profile("[pets]\naws_access_key_id = A\naws_secret_access_key = B=C\n")
            .complete(AmazonS3Builder::new())
            .unwrap();
        let value = |key| builder.get_config_value(&key).unwrap();
        use AmazonS3ConfigKey::{AccessKeyId, Region, SecretAccessKey};
        assert_eq!([value(AccessKeyId), value(SecretAccessKey), value(Region)], ["A", "B=C", "eu-central-1"]);
        let refused = profile("[pets]\nsso_session = work\n").complete(AmazonS3Builder::new()).unwrap_err().to_string();
        assert!(refused.contains("export-credentials --profile pets"), "{refused}");
    }
}
