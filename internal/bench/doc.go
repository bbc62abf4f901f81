// Package bench measures what Switchboard promises about speed, with real
// PostgreSQL and Redis that it starts and removes itself.
//
// Each benchmark is a subcommand of cmd/bench, one entry of the table in
// run.go. What they keep to:
//
//   - What is compared runs in the same run, in turns, on databases copied from
//     one template; figures are medians of the rounds, with the spread.
//   - The load comes from a process of its own, on the same cores.
//   - A round whose result is wrong (a message lost, a gap in a log, something
//     set aside) is an error, not a figure.
package bench
