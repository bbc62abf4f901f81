package httpapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/yaml"
	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// bearerScheme is the name of the one security scheme.
const bearerScheme = "bearer"

// Tags are the headings of the documentation.
const (
	tagAuth    = "Authentication"
	tagAccount = "Account"
	tagUsers   = "Users"
	tagAPIKeys = "API keys"
)

const apiDescription = `Every WhatsApp and Telegram conversation of an organization, in one place.

**Authentication.** ` + "`Authorization: Bearer <token>`" + ` with an access token (from login) or an API key. What belongs to another
organization answers exactly like what does not exist: 404.

**Errors** are RFC 9457 problems (` + "`application/problem+json`" + `) with a stable ` + "`code`" + `, and ` + "`errors`" + ` naming the fields at fault.
Unknown fields and query parameters are errors. 429 and 503 carry ` + "`Retry-After`" + `.

**Lists** are ` + "`{items, nextCursor}`" + `: pass ` + "`nextCursor`" + ` as ` + "`cursor`" + ` for the next page, until it is null.

**Times** are RFC 3339 in UTC with milliseconds; **ids** are numbers.`

// document is the OpenAPI document in the two forms that are served.
type document struct {
	json, yaml []byte
}

func (s *Server) config() huma.Config {
	config := huma.DefaultConfig("Switchboard API", cmp.Or(s.options.Version, "dev"))
	// What huma would add by itself: $schema in every answer, documentation from a CDN, and a lazily written document.
	config.CreateHooks = nil
	config.SchemasPath, config.DocsPath, config.OpenAPIPath = "", "", ""
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: decodeJSON}
	config.Formats = map[string]huma.Format{"application/json": format, "json": format} // the second for …+json
	config.DefaultFormat = "application/json"
	config.RejectUnknownQueryParameters = true
	config.Info.Description = apiDescription
	config.Servers = []*huma.Server{{URL: cmp.Or(s.options.PublicURL, "/")}}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		bearerScheme: {Type: "http", Scheme: "bearer", Description: "An access token from login or refresh, or an API key."},
	}
	config.Security = []map[string][]string{{bearerScheme: {}}}
	config.Tags = []*huma.Tag{
		{Name: tagAuth, Description: "Sign up, sign in, stay signed in."},
		{Name: tagAccount, Description: "Who is calling, and the organization."},
		{Name: tagUsers, Description: "The people of the organization. Changes are for admins."},
		{Name: tagAPIKeys, Description: "Credentials for programs. For admins."},
	}
	registerAliases(config.Components.Schemas)
	return config
}

// describe writes the OpenAPI document, once all routes are known. That takes long enough to be left to the first who asks.
func (s *Server) describe() (document, error) {
	raw, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return document{}, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return document{}, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	markNullable(tree, s.api.OpenAPI().Components.Schemas)
	var d document
	if d.json, err = json.MarshalIndent(tree, "", "  "); err != nil {
		return document{}, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	var text strings.Builder
	if err := yaml.Convert(&text, strings.NewReader(string(d.json))); err != nil {
		return document{}, fmt.Errorf("write the OpenAPI document as YAML: %w", err)
	}
	d.yaml = []byte(text.String())
	return d, nil
}

// docsPolicy lets the documentation's page run its own scripts and nothing from elsewhere. The page starts itself with an
// inline script, hence 'unsafe-inline'; it shows nothing that a user wrote.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsRoutes serves the document and a page to read it, all from the program itself.
func (s *Server) docsRoutes() {
	describe := sync.OnceValues(s.describe)
	serveDocument := func(path, contentType string, of func(document) []byte) {
		s.engine.GET(path, func(c *gin.Context) {
			d, err := describe()
			if err != nil {
				fail(c, err)
				return
			}
			c.Data(http.StatusOK, contentType, of(d))
		})
	}
	serveDocument("/openapi.json", "application/openapi+json", func(d document) []byte { return d.json })
	serveDocument("/openapi.yaml", "application/openapi+yaml", func(d document) []byte { return d.yaml })
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Switchboard API", SwaggerJSON: "/openapi.json", BasePath: "/docs/", ShowTopBar: false,
		SettingsUI: map[string]string{"defaultModelsExpandDepth": "1", "persistAuthorization": "false"},
	})
	serve := func(c *gin.Context) {
		c.Header("Content-Security-Policy", docsPolicy)
		page.ServeHTTP(c.Writer, c.Request)
	}
	s.engine.GET("/docs", serve)
	s.engine.GET("/docs/*any", serve)
}
