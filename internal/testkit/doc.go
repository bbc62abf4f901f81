// Package testkit gives tests the real things: private PostgreSQL and Redis servers, temporary SQLite files, and the
// official JavaScript Socket.IO client.
//
// Everything that a test starts is private to it and ends with it:
//
//   - Servers listen on 127.0.0.1 only, on ports outside the ephemeral range, with their data in one directory of the test
//     process under the system's temporary directory. SQLite files, and PostgreSQL unless it is durable, lie in another one
//     in memory (/dev/shm), where that has room.
//   - [PostgresFrom] and [SQLiteFrom] copy a database that was made once; package storetest has those with the product's tables.
//   - [Postgres] hands out databases of one server per test process. Its data directory is a copy of an initialized one that
//     is kept in the user's cache directory, so that a test process waits some 0.2 s for it, not for initdb.
//   - [StartPostgres] and [StartRedis] start servers that a fault test may kill, stop, pause and start again.
//   - [Browse] opens a page in a browser without a window, reads it and acts on it.
//   - No process outlives the test process, however that ends (panic, time-out, SIGKILL): the kernel signals the servers
//     when it dies, and a guard, which holds the other end of a pipe, ends what is left (for example what a test
//     had paused) and removes the directories.
//
// As root, PostgreSQL runs as the user postgres, or nobody, because it refuses to run as root.
//
// Settings, all optional: TEST_DATABASE_URL and TEST_REDIS_URL name servers to use in place of private ones (fault tests
// always start their own), TEST_SEED repeats the random choices of a run, TEST_FULL=1 asks for the long variants (see [Full]),
// CHROMIUM names a browser's binary.
//
// Tests need Linux, PostgreSQL 13 or later, Redis 6 or later and Node.js 20 or later; `make test-setup` installs them
// on Debian. Nothing is skipped when one of them is missing: the test fails and says what to install.
package testkit
