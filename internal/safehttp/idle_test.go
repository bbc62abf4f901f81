package safehttp

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const testIdle = 300 * time.Millisecond

// trickle is a body that comes byte by byte.
type trickle struct{ left int }

func (r *trickle) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	timer := time.NewTimer(testIdle / 10)
	defer timer.Stop()
	<-timer.C
	r.left--
	p[0] = 'x'
	return 1, nil
}

// A slow line gets the time that it needs; one on which nothing moves is given up.
func TestIdle(t *testing.T) {
	const parts = 20 // twice the bound
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/stalls":
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/slow":
			body := &trickle{left: parts}
			for buffer := make([]byte, 1); ; {
				if _, err := body.Read(buffer); err != nil {
					return
				}
				_, _ = w.Write(buffer)
				_ = http.NewResponseController(w).Flush()
			}
		default:
			_, _ = w.Write(sent)
		}
	})
	c := newClient(t, Options{Allow: []string{s.Listener.Addr().String()}, Timeout: time.Minute, Idle: testIdle})
	body, err := get(t, c, s.URL+"/slow")
	require.NoError(t, err)
	require.Len(t, body, parts)
	for _, path := range []string{"/silent", "/stalls"} {
		_, err = get(t, c, s.URL+path)
		require.ErrorIs(t, err, ErrIdle, path)
	}

	post := func(body io.Reader) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/echo", body)
		require.NoError(t, err)
		response, err := c.Do(r)
		if err != nil {
			return "", err
		}
		defer func() { require.NoError(t, response.Body.Close()) }()
		got, err := io.ReadAll(response.Body)
		return string(got), err
	}
	got, err := post(&trickle{left: parts})
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("x", parts), got)

	// Who reads slowly is not idle.
	response, err := c.Post(s.URL+"/echo", "text/plain", strings.NewReader("slowly")) //nolint:noctx // as the library does
	require.NoError(t, err)
	timer := time.NewTimer(2 * testIdle)
	defer timer.Stop()
	<-timer.C
	read, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, "slowly", string(read))
}

// An upload that the other side does not take is given up.
func TestIdleUpload(t *testing.T) {
	stop := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) { <-stop })
	defer close(stop)
	c := newClient(t, Options{Allow: []string{s.Listener.Addr().String()}, Timeout: time.Minute, Idle: testIdle})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, io.LimitReader(zeros{}, 64<<20))
	require.NoError(t, err)
	_, err = c.Do(r)
	require.ErrorIs(t, err, ErrIdle)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
