package httpapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"switchboard/internal/domain"
)

// Nullable is a member of a body that may be absent, null or a value, where null has a meaning, such as nobody in
// assigneeId. Tag it omitzero:
//
//	AssigneeID Nullable[int64] `json:"assigneeId,omitzero" minimum:"1"`
type Nullable[T any] struct {
	// Sent says whether the member was there.
	Sent bool
	// Value is nil for null.
	Value *T
}

// UnmarshalJSON is called for members that are there, null included.
func (n *Nullable[T]) UnmarshalJSON(data []byte) error {
	n.Sent, n.Value = true, nil
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	n.Value = new(T)
	return json.Unmarshal(data, n.Value)
}

// Schema tells OpenAPI and the validation that it is a T or null.
func (Nullable[T]) Schema(r huma.Registry) *huma.Schema {
	schema := *r.Schema(reflect.TypeFor[T](), true, "")
	schema.Nullable = true
	return &schema
}

// Schemas of domain types that Go's reflection cannot see. They are registered as aliases, because the domain knows no
// OpenAPI.
type (
	timeSchema        struct{}
	roleSchema        struct{}
	codeSchema        struct{}
	channelKindSchema struct{}
	chatStatusSchema  struct{}
)

// Schema says that a time is text.
func (timeSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "date-time", Description: "RFC 3339, UTC, with milliseconds.",
		Examples: []any{"2026-01-31T12:00:00.000Z"},
	}
}

// Schema lists the roles.
func (roleSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.RoleAdmin, domain.RoleOperator)
}

// Schema lists the codes of errors.
func (codeSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(slices.Sorted(maps.Keys(statuses))...)
}

// Schema lists the kinds of channels.
func (channelKindSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.KindWhatsApp, domain.KindWABA, domain.KindTelegram)
}

// Schema lists the statuses of chats.
func (chatStatusSchema) Schema(huma.Registry) *huma.Schema {
	return enumSchema(domain.ChatOpen, domain.ChatPending, domain.ChatResolved)
}

func enumSchema[T ~string](values ...T) *huma.Schema {
	schema := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		schema.Enum = append(schema.Enum, string(v))
	}
	return schema
}

func registerAliases(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[domain.Time](), reflect.TypeFor[timeSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[domain.Role](), reflect.TypeFor[roleSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[domain.Code](), reflect.TypeFor[codeSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[domain.ChannelKind](), reflect.TypeFor[channelKindSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[domain.ChatStatus](), reflect.TypeFor[chatStatusSchema]())
}

// markNullable adds null to the members of document's schemas that are pointers in Go and always sent: huma says it of
// plain scalars only, and generated clients would trip over the rest.
func markNullable(document map[string]any, r huma.Registry) {
	components, _ := document["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	for name := range r.Map() {
		t := r.TypeFromRef("#/components/schemas/" + name)
		schema, _ := schemas[name].(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		if t == nil || properties == nil {
			continue
		}
		for _, field := range reflect.VisibleFields(t) {
			tag := field.Tag.Get("json")
			member, _, _ := strings.Cut(tag, ",")
			property, _ := properties[member].(map[string]any)
			if field.Type.Kind() == reflect.Pointer && property != nil && !strings.Contains(tag, ",omit") {
				properties[member] = orNull(property)
			}
		}
	}
}

func orNull(schema map[string]any) map[string]any {
	switch kind := schema["type"].(type) {
	case string:
		schema["type"] = []any{kind, "null"}
		if values, ok := schema["enum"].([]any); ok {
			schema["enum"] = append(values, nil)
		}
		return schema
	case []any:
		return schema // says so already
	default:
		described := map[string]any{"anyOf": []any{map[string]any{"$ref": schema["$ref"]}, map[string]any{"type": "null"}}}
		if text, ok := schema["description"]; ok {
			described["description"] = text
		}
		return described
	}
}
