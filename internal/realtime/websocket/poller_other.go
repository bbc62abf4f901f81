//go:build !linux

package websocket

// poller is not needed where connections have goroutines that read.
type poller struct{}

// readBuffer is not needed either.
type readBuffer struct{}

func newPoller() (*poller, error) { return nil, nil } //nolint:nilnil // there is none

func newReadBuffer() *readBuffer { return &readBuffer{} }

func (*poller) add(*Conn) error { return nil }
func (*poller) remove(*Conn)    {}
func (*poller) run()            {}
func (*poller) close()          {}
