// Package telemetry is what operators see of a process from outside: its log, its Prometheus metrics and its health.
//
// The log never holds message content, tokens, secrets or phone numbers. The code that logs takes care not to pass
// them; NewLogger's redaction is the second belt.
//
// Nothing here is global: a process makes one logger, one Metrics and one Health and hands them down.
package telemetry
