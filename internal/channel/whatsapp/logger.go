package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// quietLog passes on what kind of thing the library logs, and none of the
// values: those are phone numbers, names and whole messages.
type quietLog struct {
	logger *slog.Logger
	module string
}

var _ waLog.Logger = quietLog{}

// verbs are the places of the values.
var verbs = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)

func newLog(logger *slog.Logger) waLog.Logger { return quietLog{logger: logger} }

func (l quietLog) write(level slog.Level, msg string, args []any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{slog.String("said", verbs.ReplaceAllLiteralString(msg, "…"))}
	if l.module != "" {
		attrs = append(attrs, slog.String("module", l.module))
	}
	// What kind of error it was helps, and tells nothing of anybody.
	for _, arg := range args {
		if err, is := arg.(error); is {
			if errors.Is(err, errDeleted) {
				return // no failure
			}
			attrs = append(attrs, slog.String("error_type", fmt.Sprintf("%T", err)))
		}
	}
	l.logger.LogAttrs(context.Background(), level, "whatsapp library", attrs...)
}

// Warnings of the library are news of the connection; what matters of them is
// shown as the channel's state.
func (l quietLog) Errorf(msg string, args ...any) { l.write(slog.LevelWarn, msg, args) }
func (l quietLog) Warnf(msg string, args ...any)  { l.write(slog.LevelInfo, msg, args) }
func (l quietLog) Infof(msg string, args ...any)  { l.write(slog.LevelDebug, msg, args) }
func (quietLog) Debugf(string, ...any)            {}

func (l quietLog) Sub(module string) waLog.Logger {
	return quietLog{logger: l.logger, module: strings.Trim(l.module+"/"+module, "/")}
}
