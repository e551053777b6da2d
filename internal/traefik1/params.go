package traefik1

import "gatehouse/internal/config"

// params builds the undecoded parameters of a middleware.
func params(fields ...config.Field) *config.Node {
	return &config.Node{Kind: config.Map, Fields: fields}
}

// value is a parameter that is a string, bool or int64.
func value(name string, v any) config.Field {
	return config.Field{Name: name, Node: &config.Node{Kind: config.Scalar, Value: v}}
}

// texts is a parameter that is a list of strings.
func texts(name string, values []string) config.Field {
	list := &config.Node{Kind: config.List}
	for _, v := range values {
		list.Items = append(list.Items, &config.Node{Kind: config.Scalar, Value: v})
	}
	return config.Field{Name: name, Node: list}
}

// section is a parameter that has parameters.
func section(name string, fields ...config.Field) config.Field {
	return config.Field{Name: name, Node: params(fields...)}
}
