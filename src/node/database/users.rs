//! The users of the database and what each may do: what the secrets say against what the
//! set has. Users that bear our mark and are older than those in the file are dropped;
//! newer ones come from a file that has not reached this node yet, and those without a
//! mark belong to somebody else.

use mongodb::bson::{Bson, Document, doc};

use crate::secrets::{self, Kind, Login};

/// Field of a user's custom data that says it is ours.
const MARK: &str = "gen_topology";

/// A user that has to be there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) login: Login,
}

/// What has to be done to a user.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Create(Wanted),
    /// What it may do is not what it should.
    Grant(Wanted),
    Drop(String),
}

impl Task {
    /// What is done, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Task::Create(user) => format!("add the user {}", user.login.user),
            Task::Grant(user) => format!("set what the user {} may do", user.login.user),
            Task::Drop(user) => format!("remove the user {user}"),
        }
    }

    /// The server's command.
    pub(super) fn command(&self, application_database: &str) -> Document {
        match self {
            Task::Create(user) => create(user, application_database),
            Task::Grant(user) => {
                doc! { "updateUser": &user.login.user, "roles": roles(user.kind, application_database) }
            }
            Task::Drop(user) => doc! { "dropUser": user },
        }
    }
}

/// The command that makes a user.
pub(super) fn create(user: &Wanted, application_database: &str) -> Document {
    doc! {
        "createUser": &user.login.user,
        "pwd": user.login.password.reveal(),
        "roles": roles(user.kind, application_database),
        "mechanisms": ["SCRAM-SHA-256"],
        "customData": { MARK: user.kind.file() },
    }
}

/// The command that gives a user the password of its file.
pub(super) fn set_password(user: &Wanted) -> Document {
    doc! {
        "updateUser": &user.login.user,
        "pwd": user.login.password.reveal(),
        "mechanisms": ["SCRAM-SHA-256"],
    }
}

/// What is left to do; `present` are the users in an answer to `usersInfo`. New users come
/// in the order in which they are wanted, and before old ones go.
pub(super) fn tasks(
    wanted: &[Wanted],
    present: &Document,
    application_database: &str,
) -> Vec<Task> {
    let present: Vec<&Document> = present
        .get_array("users")
        .ok()
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .collect();
    let name = |user: &Document| user.get_str("user").unwrap_or_default().to_owned();
    let mut tasks = Vec::new();
    for user in wanted {
        match present.iter().find(|old| name(old) == user.login.user) {
            None => tasks.push(Task::Create(user.clone())),
            Some(old)
                if names(old.get_array("roles").ok())
                    != roles_of(user.kind, application_database) =>
            {
                tasks.push(Task::Grant(user.clone()));
            }
            Some(_) => {}
        }
    }
    let is_old = |old: &&&Document| {
        let data = old.get_document("customData").ok();
        let kind = data.and_then(|data| data.get_str(MARK).ok());
        let ours = wanted.iter().filter(|user| Some(user.kind.file()) == kind);
        let oldest = ours.map(|user| user.login.number()).min();
        let number = secrets::number_of(&name(old));
        oldest.is_some_and(|oldest| number.is_some_and(|number| number < oldest))
    };
    let leavers = present.iter().filter(is_old);
    tasks.extend(leavers.map(|old| Task::Drop(name(old))));
    tasks
}

/// Names of the users of one kind that bear our mark; `present` is as in [`tasks`].
pub(super) fn of_kind(kind: Kind, present: &Document) -> Vec<String> {
    let present = present.get_array("users").ok().into_iter().flatten();
    let users = present.filter_map(Bson::as_document).filter(|user| {
        let data = user.get_document("customData").ok();
        data.and_then(|data| data.get_str(MARK).ok()) == Some(kind.file())
    });
    users
        .filter_map(|user| Some(user.get_str("user").ok()?.to_owned()))
        .collect()
}

/// Roles as (role, database), the least that each kind can do its work with.
fn roles_of(kind: Kind, application_database: &str) -> Vec<(String, String)> {
    let mut roles: Vec<(&str, &str)> = match kind {
        Kind::DatabaseKey => vec![],
        Kind::Application => vec![("readWrite", application_database)],
        Kind::Monitoring => vec![("clusterMonitor", "admin")],
        // clusterManager changes members and can't read data; who may grant the roles above
        // has to be userAdminAnyDatabase.
        Kind::Administration => vec![
            ("clusterManager", "admin"),
            ("clusterMonitor", "admin"),
            ("userAdminAnyDatabase", "admin"),
        ],
    };
    roles.sort_unstable();
    let owned = |(role, database): (&str, &str)| (role.to_owned(), database.to_owned());
    roles.into_iter().map(owned).collect()
}

fn roles(kind: Kind, application_database: &str) -> Vec<Bson> {
    roles_of(kind, application_database)
        .into_iter()
        .map(|(role, database)| Bson::Document(doc! { "role": role, "db": database }))
        .collect()
}

fn names(roles: Option<&Vec<Bson>>) -> Vec<(String, String)> {
    let text = |role: &Document, key: &str| role.get_str(key).unwrap_or_default().to_owned();
    let mut names: Vec<(String, String)> = roles
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .map(|role| (text(role, "role"), text(role, "db")))
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Rotation, Secrets};

    fn wanted(secrets: &Secrets) -> Vec<Wanted> {
        let of_kind = |kind: Kind| {
            let logins = secrets.logins(kind).unwrap();
            logins.into_iter().map(move |login| Wanted { kind, login })
        };
        Kind::USERS.into_iter().flat_map(of_kind).collect()
    }

    /// Name, roles, mark.
    type Present<'p> = (&'p str, &'p [(&'p str, &'p str)], &'p str);

    fn present(users: &[Present<'_>]) -> Document {
        let users: Vec<Bson> = users
            .iter()
            .map(|(name, roles, mark)| {
                let roles: Vec<Bson> = roles
                    .iter()
                    .map(|(role, db)| Bson::Document(doc! { "role": *role, "db": *db }))
                    .collect();
                let mut user = doc! { "user": *name, "roles": roles };
                if !mark.is_empty() {
                    user.insert("customData", doc! { MARK: *mark });
                }
                Bson::Document(user)
            })
            .collect();
        doc! { "users": users }
    }

    fn words(tasks: &[Task]) -> Vec<String> {
        tasks.iter().map(Task::words).collect()
    }

    #[test]
    fn users_are_made_and_left_alone_dropped_only_if_ours() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::at(directory.path());
        secrets.init().unwrap();
        let nobody = tasks(&wanted(&secrets), &present(&[]), "web");
        assert_eq!(
            words(&nobody),
            [
                "add the user administration-1",
                "add the user application-1",
                "add the user monitoring-1"
            ]
        );
        let later = Secrets::at(directory.path().join("later"));
        later.init().unwrap();
        later.begin(Rotation::Passwords).unwrap();
        later.finish(Rotation::Passwords).unwrap();
        let application = std::fs::read(directory.path().join("later/application"));
        std::fs::write(directory.path().join("application"), application.unwrap()).unwrap();
        let monitor: &[(&str, &str)] = &[("clusterMonitor", "admin")];
        let some = present(&[
            (
                "administration-1",
                &[
                    ("userAdminAnyDatabase", "admin"),
                    ("clusterMonitor", "admin"),
                    ("clusterManager", "admin"),
                ],
                "administration",
            ),
            ("application-1", &[("readWrite", "web")], "application"),
            // From a file that this node does not have yet.
            ("monitoring-2", monitor, "monitoring"),
            ("monitoring-1", &[("root", "admin")], "monitoring"),
            ("monitoring-0", monitor, ""),
            ("anne", monitor, ""),
        ]);
        assert_eq!(
            words(&tasks(&wanted(&secrets), &some, "web")),
            [
                "add the user application-2",
                "set what the user monitoring-1 may do",
                "remove the user application-1"
            ]
        );
    }

    #[test]
    fn the_application_reads_and_writes_its_own_database_only() {
        assert_eq!(
            roles_of(Kind::Application, "shop"),
            [("readWrite".to_owned(), "shop".to_owned())]
        );
    }
}
