package cloudapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/cloudapi"
)

func (s *simulator) upload(fields map[string]string, mimeType string, data []byte) answer {
	s.t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for k, v := range fields {
		require.NoError(s.t, w.WriteField(k, v))
	}
	if data != nil {
		part, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="file"; filename="a.bin"`}, "Content-Type": {mimeType},
		})
		require.NoError(s.t, err)
		_, err = part.Write(data)
		require.NoError(s.t, err)
	}
	require.NoError(s.t, w.Close())
	resp, err := s.request("POST", "/v21.0/"+phoneID+"/media", w.FormDataContentType(), &buf, token)
	require.NoError(s.t, err)
	return read(s.t, resp)
}

var whatsapp = map[string]string{"messaging_product": "whatsapp"}

func (s *simulator) link(id string) string {
	s.t.Helper()
	a := s.do("GET", "/v21.0/"+id, "")
	require.Equal(s.t, 200, a.status, a.body)
	return a.json["url"].(string)
}

func TestMediaUploadAndDownload(t *testing.T) {
	s := newSim(t)
	data := bytes.Repeat([]byte("png"), 1000)
	a := s.upload(map[string]string{"messaging_product": "whatsapp", "type": "image/png"}, "application/octet-stream", data)
	require.Equal(t, 200, a.status, a.body)
	id := a.json["id"].(string)

	a = s.do("GET", "/v21.0/"+id+"?phone_number_id="+phoneID, "")
	sum := sha256.Sum256(data)
	require.Equal(t, hex.EncodeToString(sum[:]), a.json["sha256"])
	require.Equal(t, "image/png", a.json["mime_type"])
	require.InDelta(t, 3000, a.json["file_size"], 0)
	require.Equal(t, "whatsapp", a.json["messaging_product"])
	require.Equal(t, 400, s.do("GET", "/v21.0/"+id+"?phone_number_id=1", "").status)

	url := a.json["url"].(string)
	a = s.do("GET", url, "")
	require.Equal(t, 200, a.status)
	require.Equal(t, string(data), a.body)
	require.Equal(t, "image/png", a.header.Get("Content-Type"))
	require.Equal(t, 404, s.do("GET", url+"x", "").status, "the hash is checked")
	for _, bad := range []string{"", "wrong"} {
		resp, err := s.request("GET", url, "", http.NoBody, bad)
		require.NoError(t, err)
		require.Equal(t, 401, read(t, resp).status)
	}

	require.JSONEq(t, `{"success":true}`, s.do("DELETE", "/v21.0/"+id, "").body)
	require.Equal(t, 404, s.do("GET", url, "").status)
	a = s.do("GET", "/v21.0/"+id, "")
	require.InDelta(t, 33, a.errorField("error_subcode"), 0)
	require.Equal(t, "GraphMethodException", a.errorField("type"))
}

func TestMediaLinkExpires(t *testing.T) {
	var seconds atomic.Int64
	s := newSim(t, func(o *cloudapi.Options) {
		o.Now = func() time.Time { return longAgo.Add(time.Duration(seconds.Load()) * time.Second) }
	})
	id, err := s.CustomerUpload(phoneID, "image/jpeg", "", []byte("jpg"))
	require.NoError(t, err)
	url := s.link(id)
	seconds.Store(299)
	require.Equal(t, 200, s.do("GET", url, "").status)
	seconds.Store(300)
	require.Equal(t, 404, s.do("GET", url, "").status)
	require.Equal(t, 200, s.do("GET", s.link(id), "").status, "a new link works")
}

func TestUploadChecks(t *testing.T) {
	s := newSim(t)
	require.Equal(t, 400, s.upload(nil, "image/png", []byte("x")).status)
	require.Equal(t, 400, s.upload(whatsapp, "image/png", nil).status)
	require.Equal(t, 400, s.upload(whatsapp, "image/png", []byte{}).status)
	a := s.upload(whatsapp, "application/x-msdownload", []byte("x"))
	require.Contains(t, a.errorField("message"), "Received file of type 'application/x-msdownload'")
	a = s.upload(whatsapp, "image/png", make([]byte, 5<<20+1))
	require.InDelta(t, 131053, a.errorField("code"), 0)
	a = s.do("POST", "/v21.0/"+phoneID+"/media", "{}")
	require.InDelta(t, 100, a.errorField("code"), 0)
}

func TestHugeUploadIsCutOff(t *testing.T) {
	s := newSim(t)
	endless := io.MultiReader(
		bytes.NewReader([]byte("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n")),
		io.LimitReader(zeros{}, 102<<20),
	)
	resp, err := s.request("POST", "/v21.0/"+phoneID+"/media", "multipart/form-data; boundary=b", endless, token)
	if err != nil {
		return // the server answered and closed while the client still wrote
	}
	require.Equal(t, 413, read(t, resp).status)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestMediaFaults(t *testing.T) {
	s := newSim(t)
	data := bytes.Repeat([]byte("x"), 100_000)
	id, err := s.CustomerUpload(phoneID, "image/jpeg", "", data)
	require.NoError(t, err)

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultMediaExpired, Count: 1})
	require.Equal(t, 404, s.do("GET", s.link(id), "").status)

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultMediaMissing, Count: 1})
	url := s.link(id)
	require.Equal(t, 404, s.do("GET", url, "").status)

	s.fault(cloudapi.Fault{Kind: cloudapi.FaultMediaTruncated, Count: 1})
	resp, err := s.request("GET", url, "", http.NoBody, token)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, len(b), len(data))

	slow := s.fault(cloudapi.Fault{Kind: cloudapi.FaultMediaSlow, Delay: time.Hour, Count: 1})
	resp, err = s.request("GET", url, "", http.NoBody, token)
	require.NoError(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, 50_000))
	require.NoError(t, err)
	require.NoError(t, s.ClearFault(slow))
	b, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.NoError(t, err)
	require.Len(t, b, 50_000)
	require.Equal(t, 200, s.do("GET", url, "").status)
}

func TestMediaStoreIsBounded(t *testing.T) {
	s := newSim(t, func(o *cloudapi.Options) { o.MediaBytes = 25 })
	var ids []string
	for range 4 {
		id, err := s.CustomerUpload(phoneID, "image/jpeg", "", make([]byte, 10))
		require.NoError(t, err)
		ids = append(ids, id)
	}
	require.Equal(t, 400, s.do("GET", "/v21.0/"+ids[1], "").status)
	require.Equal(t, 200, s.do("GET", "/v21.0/"+ids[2], "").status)
}
