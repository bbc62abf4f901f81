package httpapi

import (
	"context"
	"net/http"

	"switchboard/internal/domain"
)

func (s *Server) apiKeyRoutes() {
	admin(s, route{
		method: http.MethodGet, path: "/api/api-keys", id: "listApiKeys", tag: tagAPIKeys, summary: "List the API keys",
		description: "Oldest first. Secrets are not among what is kept.",
	}, s.listAPIKeys)
	admin(s, route{
		method: http.MethodPost, path: "/api/api-keys", id: "createApiKey", tag: tagAPIKeys, summary: "Make an API key",
		description: "The key acts in the name of the admin who makes it, with its own role or that admin's, whichever is lower, " +
			"until it is deleted or the admin is deactivated. The secret is shown here and never again.",
		status: http.StatusCreated,
	}, s.createAPIKey)
	admin(s, route{
		method: http.MethodDelete, path: "/api/api-keys/{id}", id: "deleteApiKey", tag: tagAPIKeys, summary: "Delete an API key",
		description: "Ends the key at once, and the sockets that were opened with it.",
	}, s.deleteAPIKey)
}

func (s *Server) listAPIKeys(ctx context.Context, who domain.Principal, in *PageQuery) (*answer[Page[domain.APIKey]], error) {
	var after int64
	if err := decodeCursor(in.Cursor, &after); err != nil {
		return nil, err
	}
	keys, err := s.options.Accounts.APIKeys(ctx, who, after, in.Limit+1)
	return answerOf(pageOf(keys, in.Limit, func(k domain.APIKey) int64 { return k.ID }), err)
}

type createAPIKeyInput struct {
	Body struct {
		Name string      `json:"name" minLength:"1" maxLength:"200" doc:"What it is for." example:"CRM"`
		Role domain.Role `json:"role" example:"operator"`
	} `nameHint:"NewAPIKey"`
}

// CreatedAPIKey is an API key with its secret.
type CreatedAPIKey struct {
	domain.APIKey
	Secret string `json:"secret" doc:"Send it as Authorization: Bearer. It is not shown again." example:"sb_k3v9x2ab_…"`
}

func (s *Server) createAPIKey(ctx context.Context, who domain.Principal, in *createAPIKeyInput) (*answer[CreatedAPIKey], error) {
	key, secret, err := s.options.Accounts.CreateAPIKey(ctx, who, in.Body.Name, in.Body.Role)
	return answerOf(CreatedAPIKey{APIKey: key, Secret: secret}, err)
}

func (s *Server) deleteAPIKey(ctx context.Context, who domain.Principal, in *IDPath) (*noContent, error) {
	return nil, s.options.Accounts.DeleteAPIKey(ctx, who, in.ID)
}
