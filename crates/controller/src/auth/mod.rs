//! Who someone is: passwords, tokens, sessions' access tokens, roles.
//!
//! Nothing here knows an account or a table; services bring both together. What is
//! secret here has no `Debug`, no `Display` and no `Serialize`, and is wiped from
//! memory when dropped.
//!
//! | room | what it is for |
//! |---|---|
//! | [`password`] | what may be a password, and hashing it off the async threads |
//! | [`token`] | opaque tokens: API, invite and enrolment |
//! | [`jwt`] | access tokens of signed-in accounts |
//! | [`role`] | what an account may do |

pub mod jwt;
mod jwt_ring;
pub mod password;
pub mod role;
pub mod token;
