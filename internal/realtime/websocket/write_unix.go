//go:build unix

package websocket

import (
	"errors"
	"syscall"
)

// writeOnce writes what the kernel takes now; syscall.EAGAIN says that it takes nothing.
func writeOnce(descriptor uintptr, data []byte) (int, error) {
	for {
		n, err := syscall.Write(int(descriptor), data)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return max(n, 0), err
	}
}
