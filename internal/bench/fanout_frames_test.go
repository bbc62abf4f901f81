package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Frames of every form of length are found wherever the reads happen to cut them.
func TestFramesAreFoundWhereverTheyAreCut(t *testing.T) {
	for _, length := range []int{0, 1, 125, 126, 127, 600, 0xFFFF, 0x10000, maxServerFrame} {
		payload := bytes.Repeat([]byte("p"), length)
		whole := serverFrame(opText, payload)
		cuts := []int{0, 1, 2, 3, 4, 9, 10, len(whole) - 1}
		for _, cut := range cuts {
			if cut >= len(whole) {
				continue
			}
			_, size, err := nextFrame(whole[:cut])
			require.NoError(t, err, "%d of %d bytes", cut, length)
			assert.Zero(t, size, "%d of %d bytes are no frame", cut, length)
		}
		frame, size, err := nextFrame(append(whole, serverFrame(opPing, []byte("next"))...))
		require.NoError(t, err)
		assert.Equal(t, len(whole), size)
		assert.EqualValues(t, opText, frame.opcode)
		assert.Equal(t, payload, frame.payload)
	}
}

func TestFramesThatNoServerMaySendAreRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"masked":          clientFrame(opText, []byte("x")),
		"begin of a few":  {0x01, 0x00},
		"rest of a few":   {0x80, 0x00},
		"compressed":      {0xC1, 0x00},
		"beyond all size": {0x81, 127, 0, 0, 0, 0, 0, 0x10, 0, 1},
		"negative size":   {0x81, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		t.Run(name, func(t *testing.T) {
			_, size, err := nextFrame(b)
			require.Error(t, err)
			assert.Zero(t, size)
		})
	}
}

func TestClientFramesAreMaskedWithZero(t *testing.T) {
	assert.Equal(t, []byte{0x81, 0x81, 0, 0, 0, 0, '3'}, enginePong)
	long := clientFrame(opText, bytes.Repeat([]byte("x"), 600))
	assert.Equal(t, []byte{0x81, 0x80 | 126, 0x02, 0x58, 0, 0, 0, 0, 'x'}, long[:9])
	assert.Len(t, long, 608)
}

// What an event holds is found by a search for bytes. A customer's own text must not be taken for it.
func TestSeqAndStampAreRead(t *testing.T) {
	text := []byte(`42["message:new",{"id":1,"content":"@1764000000123456 and \"seq\":77, \"content\":\"@5"},{"seq":42,"epoch":"e","at":"2026-01-01T00:00:00.000Z"}]`)
	seq, found := readSeq(text)
	assert.True(t, found)
	assert.EqualValues(t, 42, seq)
	stamp, found := readStamp(text)
	assert.True(t, found)
	assert.EqualValues(t, 1764000000123456, stamp)

	for _, none := range []string{``, `42["x",{}]`, `42["x",{"seq":`, `42["x",{"seq":"7"}]`, `42["x",{"seq":-7}]`} {
		_, found = readSeq([]byte(none))
		assert.False(t, found, none)
	}
	_, found = readStamp([]byte(`{"content":"hello"}`))
	assert.False(t, found)
	long, found := readNumber([]byte(strings.Repeat("9", 40)))
	assert.True(t, found)
	assert.EqualValues(t, 999999999999999999, long, "what does not fit is cut, and is no event that anybody expects")
}

func FuzzNextFrame(f *testing.F) {
	f.Add(serverFrame(opText, []byte(`42["x",{"content":"@1"},{"seq":1}]`)))
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, size, err := nextFrame(b)
		if err != nil && size != 0 {
			t.Fatalf("an error and %d bytes", size)
		}
		if size > len(b) || len(frame.payload) > size {
			t.Fatalf("%d of %d bytes, %d of payload", size, len(b), len(frame.payload))
		}
		_, _ = readSeq(frame.payload)
		_, _ = readStamp(frame.payload)
	})
}
