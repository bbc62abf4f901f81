package whatsapp

import signallog "go.mau.fi/libsignal/logger"

// The Signal library sets its logger when it first logs, without a lock. It has
// one before that, which says nothing: what it logs is keys and numbers.
func init() {
	var quiet signallog.Loggable = silence{}
	signallog.Setup(&quiet)
}

type silence struct{}

func (silence) Debug(string, string)   {}
func (silence) Info(string, string)    {}
func (silence) Warning(string, string) {}
func (silence) Error(string, string)   {}
func (silence) Configure(string)       {}
