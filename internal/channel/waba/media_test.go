package waba

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
)

func TestFetchMedia(t *testing.T) {
	p := newPlatform(t, nil)
	s := p.open(t, newStage(), nil)
	data := bytes.Repeat([]byte("picture "), 20_000)
	ref, err := p.CustomerUpload(p.number.PhoneNumberID, "image/jpeg", "a.jpg", data)
	require.NoError(t, err)
	fetch := func(ref string) ([]byte, error) {
		file, err := s.FetchMedia(within(t), ref)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return io.ReadAll(file)
	}
	got, err := fetch(ref)
	require.NoError(t, err)
	assert.Equal(t, data, got)

	t.Run("an expired link is asked for again", func(t *testing.T) {
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultMediaExpired, Count: 1})
		got, err := fetch(ref)
		require.NoError(t, err)
		assert.Equal(t, data, got)
	})
	outcomes := map[string]struct {
		fault   cloudapi.Fault
		ref     string
		outcome channel.Outcome
		code    string
	}{
		"expired for good":  {cloudapi.Fault{Kind: cloudapi.FaultMediaExpired}, ref, channel.Refused, codeMediaGone},
		"missing":           {cloudapi.Fault{Kind: cloudapi.FaultMediaMissing}, ref, channel.Refused, codeMediaGone},
		"unknown id":        {cloudapi.Fault{}, "123", channel.Refused, codeMediaGone},
		"no id":             {cloudapi.Fault{}, "../5/messages", channel.Refused, codeMediaGone},
		"dropped":           {cloudapi.Fault{Kind: cloudapi.FaultDrop, Endpoint: "media"}, ref, channel.NotSent, codeUnreachable},
		"a fault of Meta's": {cloudapi.Fault{Kind: cloudapi.FaultFail, Endpoint: "media"}, ref, channel.NotSent, "provider_131000"},
		"over a limit":      {cloudapi.Fault{Kind: cloudapi.FaultRateLimit, Endpoint: "media"}, ref, channel.NotSent, codeRateLimited},
		"bad token":         {cloudapi.Fault{Kind: cloudapi.FaultFail, Endpoint: "media", Code: 190}, ref, channel.NotSent, codeTokenInvalid},
	}
	for name, c := range outcomes {
		t.Run(name, func(t *testing.T) {
			if c.fault.Kind != "" {
				p.fault(t, c.fault)
				defer p.ClearFaults()
			}
			_, err := fetch(c.ref)
			e := sendError(t, err)
			assert.Equal(t, c.outcome, e.Outcome)
			assert.Equal(t, c.code, e.Code)
		})
	}
	t.Run("cut short", func(t *testing.T) {
		p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultMediaTruncated, Count: 1})
		_, err := fetch(ref)
		require.Error(t, err, "half a file is not a file")
	})
}

// wire is a transport that answers by itself and remembers who got the token.
type wire struct {
	answer func(*http.Request) *http.Response
	seen   []string
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.seen = append(w.seen, r.URL.Host+" "+r.Header.Get("Authorization"))
	resp := w.answer(r)
	resp.Request = r
	return resp, nil
}

func reply(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for pair := range slices.Chunk(header, 2) {
		h.Set(pair[0], pair[1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func TestMediaLinksStayWithMeta(t *testing.T) {
	const file = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1"
	cases := map[string]struct {
		link    string
		to      string // where the link redirects
		code    string // empty: the file comes
		without bool   // no client for media
		visits  int
	}{
		"Meta's file server":        {link: file, visits: 1},
		"with the port":             {link: "https://mmg.whatsapp.net:443/x", visits: 1},
		"redirect within Meta":      {link: file, to: "https://scontent.xx.fbsbx.com/y", visits: 2},
		"no TLS":                    {link: "http://lookaside.fbsbx.com/x", code: codeMediaUnsafe},
		"another port":              {link: "https://lookaside.fbsbx.com:8443/x", code: codeMediaUnsafe},
		"another host":              {link: "https://evil.example/x", code: codeMediaUnsafe},
		"ends alike":                {link: "https://evilfbsbx.com/x", code: codeMediaUnsafe},
		"begins alike":              {link: "https://fbsbx.com.evil.example/x", code: codeMediaUnsafe},
		"with a user":               {link: "https://lookaside.fbsbx.com@evil.example/x", code: codeMediaUnsafe},
		"cloud metadata":            {link: "http://169.254.169.254/latest/meta-data", code: codeMediaUnsafe},
		"file":                      {link: "file:///etc/passwd", code: codeMediaUnsafe},
		"nothing":                   {link: "", code: codeMediaUnsafe},
		"no URL":                    {link: "http://[::1", code: codeMediaUnsafe},
		"redirect away":             {link: file, to: "https://evil.example/x", code: codeMediaUnsafe, visits: 1},
		"redirect off TLS":          {link: file, to: "http://lookaside.fbsbx.com/x", code: codeMediaUnsafe, visits: 1},
		"redirect to the Graph API": {link: file, to: "http://GRAPH/v24.0/5", code: codeMediaUnsafe, visits: 1},
		"redirect for ever":         {link: file, to: file, code: codeMediaUnsafe, visits: 3},
		"no client for media":       {link: file, code: codeMediaUnsafe, without: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, `{"url":%q}`, c.link) })
			graph, err := url.Parse(p.url)
			require.NoError(t, err)
			net := &wire{answer: func(r *http.Request) *http.Response {
				if c.to != "" && (r.URL.String() == file) {
					return reply(http.StatusFound, "", "Location", strings.Replace(c.to, "GRAPH", graph.Host, 1))
				}
				return reply(http.StatusOK, "the file")
			}}
			s := p.open(t, newStage(), func(o *Options, _ *channel.Config) {
				if !c.without {
					o.Media = &http.Client{Transport: net}
				}
			})
			got, err := s.FetchMedia(within(t), "5")
			for _, visit := range net.seen {
				assert.NotContains(t, visit, "evil")
			}
			assert.Len(t, net.seen, c.visits)
			if c.code != "" {
				e := sendError(t, err)
				assert.Equal(t, channel.Refused, e.Outcome)
				assert.Equal(t, c.code, e.Code)
				return
			}
			require.NoError(t, err)
			content, err := io.ReadAll(got)
			require.NoError(t, err)
			require.NoError(t, got.Close())
			assert.Equal(t, "the file", string(content))
			assert.Contains(t, net.seen[0], "Bearer "+p.number.AccessToken)
		})
	}
}

func TestLimitedFileFails(t *testing.T) {
	file := &limited{ReadCloser: io.NopCloser(strings.NewReader("123456")), left: 5}
	got, err := io.ReadAll(file)
	require.Error(t, err)
	assert.Equal(t, "12345", string(got))
}

func TestUploads(t *testing.T) {
	p := newPlatform(t, nil)
	host := newStage()
	s := p.open(t, host, nil)
	picture := outbound(domain.Message{Type: domain.TypeImage, Media: host.put(1, "image/jpeg", "a.jpg", bytes.Repeat([]byte("x"), 300_000))})
	uploads := func() int {
		n := 0
		for _, e := range p.Ledger().Entries(cloudapi.Filter{Kind: cloudapi.KindCall}) {
			if strings.HasSuffix(e.Call.Path, "/media") && e.Call.HTTPStatus == http.StatusOK {
				n++
			}
		}
		return n
	}

	// A failed upload is never of unknown outcome: nothing reached anybody.
	for _, f := range []cloudapi.Fault{
		{Kind: cloudapi.FaultDrop}, {Kind: cloudapi.FaultFail, Code: 131000}, {Kind: cloudapi.FaultRateLimit},
	} {
		f.Endpoint, f.Count = "media", 1
		p.fault(t, f)
		_, err := s.Send(within(t), picture)
		assert.Equal(t, channel.NotSent, sendError(t, err).Outcome, f.Kind)
	}
	assert.Empty(t, p.Ledger().Sends(""))
	require.Zero(t, uploads())

	// A send that has to wait does not carry the file over again.
	p.fault(t, cloudapi.Fault{Kind: cloudapi.FaultRateLimit, Count: 1})
	_, err := s.Send(within(t), picture)
	require.Equal(t, channel.NotSent, sendError(t, err).Outcome)
	_, err = s.Send(within(t), picture)
	require.NoError(t, err)
	assert.Equal(t, 1, uploads())
	assert.Equal(t, 4, host.opened())

	// One that Meta has dropped is brought again, and the message is sent once.
	s.uploads.put(1, "999")
	_, err = s.Send(within(t), picture)
	require.NoError(t, err)
	assert.Equal(t, 2, uploads())
	assert.Equal(t, 2, p.Ledger().Counts().Accepted)

	// What Meta does not take is refused, once.
	strange := outbound(domain.Message{Type: domain.TypeDocument, Media: host.put(2, "application/x-msdownload", "a.exe", []byte("MZ"))})
	_, err = s.Send(within(t), strange)
	assert.Equal(t, channel.Refused, sendError(t, err).Outcome)

	// A file whose length is not told, and one that is shorter than told.
	unknown := host.put(3, "text/plain", "a.txt", []byte("hello"))
	short := host.put(4, "text/plain", "b.txt", []byte("hello"))
	host.mu.Lock()
	f := host.files[3]
	f.media.Size = 0
	host.files[3] = f
	f = host.files[4]
	f.media.Size = 50
	host.files[4] = f
	host.mu.Unlock()
	_, err = s.Send(within(t), outbound(domain.Message{Type: domain.TypeDocument, Media: unknown}))
	require.NoError(t, err)
	before := p.Ledger().Counts().Sends
	_, err = s.Send(within(t), outbound(domain.Message{Type: domain.TypeDocument, Media: short}))
	assert.Equal(t, channel.NotSent, sendError(t, err).Outcome)
	assert.Equal(t, before, p.Ledger().Counts().Sends)
}

func TestUploadsAreBounded(t *testing.T) {
	var u uploads
	for id := range int64(maxUploads + 50) {
		u.put(id, "h")
	}
	assert.Len(t, u.byID, maxUploads)
	handle, ok := u.get(maxUploads + 49)
	assert.True(t, ok)
	assert.Equal(t, "h", handle)
}

func TestUploadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(within(t))
	p := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	host := newStage()
	s := p.open(t, host, nil)
	_, err := s.Send(ctx, outbound(domain.Message{Type: domain.TypeImage, Media: host.put(1, "image/png", "", []byte("x"))}))
	assert.Equal(t, channel.NotSent, sendError(t, err).Outcome)
}
