package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
)

// A code as a picture is there for the channels that a code as text is there for: none that is opened with credentials.
func TestQRAsPicture(t *testing.T) {
	w := newInboxWorld(t, seededSQLite(t))
	own, foreign := path("/api/channels/%d/qr", w.a.channel), path("/api/channels/%d/qr", w.b.channel)

	image := w.call(t, adminA, "GET", own+".png", "", 409)
	assert.Equal(t, domain.CodeUnsupported, image.problem(t).Code)
	assert.JSONEq(t, string(w.call(t, adminA, "GET", own, "", 409).body), string(image.body))

	assert.Equal(t, domain.CodeNotFound, w.call(t, adminA, "GET", foreign+".png", "", 404).problem(t).Code)
	w.call(t, adminA, "GET", path("/api/channels/%d/qr.png", missing), "", 404)
	w.call(t, adminA, "GET", "/api/channels/x/qr.png", "", 422)
	w.call(t, operatorA, "GET", own+".png", "", 403)
	require.Equal(t, 401, w.send("GET", own+".png", "", "").status)

	operation := decode[openAPI](t, w.send("GET", "/openapi.json", "", "")).Paths["/api/channels/{id}/qr.png"]["get"]
	assert.Equal(t, "getChannelQRImage", operation.OperationID)
}
