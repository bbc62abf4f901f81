package whatsapp

import (
	"os"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
)

// The library's keep-alive is slow; it is set for the whole process.
func TestMain(m *testing.M) {
	whatsmeow.KeepAliveIntervalMin, whatsmeow.KeepAliveIntervalMax = 2*time.Second, 4*time.Second
	whatsmeow.KeepAliveResponseDeadline = 5 * time.Second
	os.Exit(m.Run()) //nolint:forbidigo // it is main
}
