package websocket

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What the kernel may hold for a peer that does not read is bounded, beneath TLS too.
func TestSendBufferIsBounded(t *testing.T) {
	overBoth(t, func(t *testing.T, secure bool) {
		const limit = 32 << 10
		s := newStation(t, Limits{SendBuffer: limit}, secure, nil)
		_, p := s.dial()
		raw, err := below(p.conn.conn).SyscallConn()
		require.NoError(t, err)
		size, problem := 0, error(nil)
		require.NoError(t, raw.Control(func(descriptor uintptr) {
			size, problem = unix.GetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_SNDBUF)
		}))
		require.NoError(t, problem)
		require.Equal(t, 2*limit, size, "the kernel doubles what it is asked for")
	})
}
