package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

var purposes = map[Process]string{
	API:        "api serves REST, webhooks, Socket.IO and the dashboard. It is stateless: run as many as you like behind a load balancer with sticky sessions.",
	Worker:     "worker owns channel sessions: it connects, receives and sends. Run one for all channels (pool mode), several, or one per number (-channels).",
	Standalone: "standalone is an API node and a worker in one process, with an embedded database and Redis.",
}

// Usage returns the help text of p, for --help.
func Usage(p Process) string {
	defaults := Defaults(p)
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [flags]\n\n%s\n\n", p, wrap(purposes[p], "", 100))
	b.WriteString("Every setting is a flag, an environment variable and a key of the YAML file (the variable in lower case).\n" +
		"Flags win over the environment, the environment over the file. Secrets have no flag; they may also come from the\n" +
		"file that NAME_FILE names.\n\n  -config FILE\n        YAML file with settings, such as configs/" + p.String() + ".yaml\n  -help\n        this text\n")
	if p&serving != 0 {
		b.WriteString("  -new-epoch\n        give every event log a new epoch, so that all clients fetch everything anew, and exit: after a restore\n")
	}
	group := ""
	for _, s := range settings {
		if s.in&p == 0 {
			continue
		}
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n%s\n", group)
		}
		name := "-" + s.flagName() + ", " + s.env
		if s.secret {
			name = s.env + ", " + s.env + "_FILE"
		}
		fmt.Fprintf(&b, "  %s%s\n%s\n", name, s.note(&defaults, p), wrap(s.usage, "        ", 100))
	}
	return b.String()
}

func (s setting) note(defaults *Config, p Process) string {
	switch value := yamlValue(s.field(defaults)); {
	case s.required&p != 0:
		return " (required)"
	case value == `""` || value == "[]":
		return ""
	default:
		return " (default " + strings.Trim(value, `"`) + ")"
	}
}

// Template returns p's settings file with every key, commented, at its default. The files in configs are made of it.
func Template(p Process) []byte {
	defaults := Defaults(p)
	var b strings.Builder
	fmt.Fprintf(&b, "# Settings of %s, at their defaults. Every key is also an environment variable, in upper case, which wins\n", p)
	b.WriteString("# over this file. An empty value means: not set. Secrets are better kept in a file: write jwt_secret_file: PATH.\n")
	group := ""
	for _, s := range settings {
		if s.in&p == 0 {
			continue
		}
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n# ---- %s ----\n", group)
		}
		usage := s.usage
		if s.required&p != 0 {
			usage = "Required. " + usage
		}
		fmt.Fprintf(&b, "\n%s\n# Wanted: %s.\n", wrap(usage, "# ", 110), s.want)
		value := yamlValue(s.field(&defaults))
		if s.derived && value != `""` {
			fmt.Fprintf(&b, "# Default: %s\n", strings.Trim(value, `"`))
			value = `""`
		}
		fmt.Fprintf(&b, "%s: %s\n", s.key(), value)
	}
	return []byte(b.String())
}

func yamlValue(field any) string {
	switch f := field.(type) {
	case *string:
		return strconv.Quote(*f)
	case *Secret:
		return strconv.Quote(f.Reveal())
	case *bool:
		return strconv.FormatBool(*f)
	case *int:
		return strconv.Itoa(*f)
	case *Bytes:
		return f.String()
	case *time.Duration:
		return shortDuration(*f)
	default:
		return "[]"
	}
}

// shortDuration writes 15m and not 15m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func wrap(text, indent string, width int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
