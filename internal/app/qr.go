package app

import (
	"fmt"
	"io"
	"sync"

	"github.com/mdp/qrterminal/v3"
)

// showQR draws QR codes on out, for whoever has started a dedicated worker: they
// can link its numbers from there.
func showQR(out io.Writer) func(channelID int64, qr string) {
	var mu sync.Mutex // held while a code is drawn
	return func(channelID int64, qr string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(out, "\nLink channel %d: WhatsApp, Settings, Linked devices, Link a device.\n", channelID)
		qrterminal.GenerateWithConfig(qr, qrterminal.Config{
			Level: qrterminal.L, Writer: out, HalfBlocks: true, QuietZone: 1,
			BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE,
			BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
		})
	}
}
