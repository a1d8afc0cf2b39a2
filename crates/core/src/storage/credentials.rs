//! Finds whether a store has credentials of its own, so that it need not ask the machine for some.
//!
//! Without credentials `object_store` asks the metadata service of the machine that the process runs on for those of its
//! role, whatever bucket is named: of a location that a table's owner chose too. So the service says that it wants that
//! ([`Storage::with_machine_credentials`](super::Storage::with_machine_credentials)); otherwise such a store is refused.
//! Roles that the environment names (web identity, a container's or a pod's credentials, a workload's identity) are
//! credentials that were configured.

use std::path::Path;

use object_store::ObjectStoreScheme;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3};
use object_store::azure::{AzureConfigKey as Azure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Google};
use url::Url;

use crate::error::{Error, Result};

/// Refuses a store that would ask its machine for credentials. Makes no request.
pub(super) fn require(base: &Url, options: &[(String, String)]) -> Result<()> {
    let has = match ObjectStoreScheme::parse(base) {
        Ok((ObjectStoreScheme::AmazonS3, _)) => of_s3(options),
        Ok((ObjectStoreScheme::GoogleCloudStorage, _)) => of_google(options),
        Ok((ObjectStoreScheme::MicrosoftAzure, _)) => of_azure(options),
        _ => true,
    };
    if has {
        return Ok(());
    }
    Err(Error::invalid_input(
        "no credentials are configured for the store: configure its keys or token by options or the environment; where the machine has \
         a role, ask for that (Storage::with_machine_credentials); for a public bucket, say skip_signature=true",
    ))
}

/// The options of a kind of store, as it understands them.
fn understood<Builder, Key: std::str::FromStr>(
    options: &[(String, String)],
    builder: Builder,
    with: impl Fn(Builder, Key, &str) -> Builder,
) -> Builder {
    options.iter().fold(builder, |builder, (key, value)| match key.to_ascii_lowercase().parse() {
        Ok(key) => with(builder, key, value),
        Err(_) => builder,
    })
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| {
        ["1", "true", "on", "yes", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
    })
}

fn of_s3(options: &[(String, String)]) -> bool {
    let builder =
        understood(options, AmazonS3Builder::new(), |builder, key, value| builder.with_config(key, value));
    let has = |key: S3| builder.get_config_value(&key).is_some();
    is_true(builder.get_config_value(&S3::SkipSignature))
        || has(S3::AccessKeyId)
        || has(S3::SecretAccessKey)
        || (has(S3::WebIdentityTokenFile) && has(S3::RoleArn))
        || has(S3::ContainerCredentialsRelativeUri)
        || (has(S3::ContainerCredentialsFullUri) && has(S3::ContainerAuthorizationTokenFile))
}

fn of_google(options: &[(String, String)]) -> bool {
    let builder = understood(options, GoogleCloudStorageBuilder::new(), |builder, key, value| {
        builder.with_config(key, value)
    });
    let has = |key: Google| builder.get_config_value(&key).is_some();
    // The file that `gcloud auth application-default login` leaves in the user's home.
    let (home, file) = match cfg!(windows) {
        true => ("APPDATA", "gcloud/application_default_credentials.json"),
        false => ("HOME", ".config/gcloud/application_default_credentials.json"),
    };
    let of_user = || std::env::var_os(home).is_some_and(|home| Path::new(&home).join(file).exists());
    is_true(builder.get_config_value(&Google::SkipSignature))
        || has(Google::ServiceAccount)
        || has(Google::ServiceAccountKey)
        || has(Google::ApplicationCredentials)
        || of_user()
}

fn of_azure(options: &[(String, String)]) -> bool {
    let builder = understood(options, MicrosoftAzureBuilder::new(), |builder, key, value| {
        builder.with_config(key, value)
    });
    let has = |key: Azure| builder.get_config_value(&key).is_some();
    let is = |key: Azure| is_true(builder.get_config_value(&key));
    let is_app = has(Azure::ClientId) && has(Azure::AuthorityId);
    let fabric = [
        Azure::FabricTokenServiceUrl,
        Azure::FabricWorkloadHost,
        Azure::FabricSessionToken,
        Azure::FabricClusterIdentifier,
    ];
    is(Azure::SkipSignature)
        || is(Azure::UseEmulator)
        || is(Azure::UseAzureCli)
        || has(Azure::Token)
        || has(Azure::AccessKey)
        || has(Azure::SasKey)
        || (is_app && (has(Azure::FederatedTokenFile) || has(Azure::ClientSecret)))
        || fabric.into_iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store, and sets of options of which each has credentials.
    type Configured<'a> = (&'a str, &'a [&'a [(&'a str, &'a str)]]);

    #[test]
    fn credentials_that_are_configured_are_known_by_their_options() {
        let all: [Configured<'_>; 3] = [
            (
                "s3://bucket",
                &[
                    &[("aws_access_key_id", "a"), ("aws_secret_access_key", "b")],
                    &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("aws_role_arn", "arn")],
                    &[("aws_container_credentials_relative_uri", "/v2/x")],
                    &[
                        ("aws_container_credentials_full_uri", "http://169.254.170.23/v1"),
                        ("aws_container_authorization_token_file", "/t"),
                    ],
                    &[("aws_skip_signature", "True")],
                ],
            ),
            (
                "gs://bucket",
                &[
                    &[("google_service_account", "/key.json")],
                    &[("google_service_account_key", "{}")],
                    &[("google_application_credentials", "/adc.json")],
                    &[("google_skip_signature", "1")],
                ],
            ),
            (
                "abfss://container@account.dfs.core.windows.net",
                &[
                    &[("azure_storage_account_key", "a")],
                    &[("azure_storage_sas_key", "sv=1&sig=a")],
                    &[("azure_storage_token", "a")],
                    &[("azure_client_id", "a"), ("azure_tenant_id", "b"), ("azure_client_secret", "c")],
                    &[
                        ("azure_client_id", "a"),
                        ("azure_tenant_id", "b"),
                        ("azure_federated_token_file", "/t"),
                    ],
                    &[("azure_use_azure_cli", "true")],
                    &[("azure_storage_use_emulator", "true")],
                ],
            ),
        ];
        for (base, configured) in all {
            let base = Url::parse(base).unwrap();
            let options = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<Vec<_>>()
            };
            for pairs in configured {
                require(&base, &options(pairs)).unwrap();
            }
            let others = [
                ("aws_region", "eu-west-1"),
                ("aws_skip_signature", "false"),
                ("aws_role_arn", "arn"),
                ("aws_metadata_endpoint", "http://127.0.0.1:1"),
                ("azure_client_id", "a"),
                ("azure_msi_endpoint", "http://127.0.0.1:1"),
            ];
            for pairs in [&others[..], &[]] {
                // Who runs the tests may be known to Google.
                let refused = require(&base, &options(pairs)).is_err() || base.scheme() == "gs";
                assert!(refused, "{base}: {pairs:?}");
            }
        }
    }
}
