package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// config is a struct whose fields are settings.
type config struct {
	heading string // of its table
	file    string // where it is, from the root
	name    string // of the struct
}

// render returns one Markdown table a config, each ending in a line feed.
func render(root string, configs []config) (string, error) {
	var tables []string
	for _, c := range configs {
		rows, err := readRows(filepath.Join(root, c.file), c.name)
		if err != nil {
			return "", fmt.Errorf("reading %s of %s: %w", c.name, c.file, err)
		}
		tables = append(tables, "### "+c.heading+"\n\n| variable | default | what it does |\n|---|---|---|\n"+rows)
	}
	return strings.Join(tables, "\n"), nil
}

// readRows returns a table row for each field of the struct that has an env
// tag. It returns an error when the file or the struct is not there, when none
// of its fields is a setting, or when one has no doc comment.
func readRows(path, name string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	fields := structFields(file, name)
	if fields == nil {
		return "", errors.New("no such struct")
	}
	var rows strings.Builder
	for _, f := range fields.List {
		row, err := rowOf(f)
		if err != nil {
			return "", err
		}
		rows.WriteString(row)
	}
	if rows.Len() == 0 {
		return "", errors.New("none of its fields has an env tag")
	}
	return rows.String(), nil
}

func structFields(file *ast.File, name string) *ast.FieldList {
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range decl.Specs {
			spec, ok := s.(*ast.TypeSpec)
			if !ok || spec.Name.Name != name {
				continue
			}
			if t, ok := spec.Type.(*ast.StructType); ok {
				return t.Fields
			}
		}
	}
	return nil
}

// rowOf is empty for a field that is not a setting.
func rowOf(f *ast.Field) (string, error) {
	if f.Tag == nil || len(f.Names) != 1 {
		return "", nil
	}
	literal, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return "", fmt.Errorf("reading the tag %s: %w", f.Tag.Value, err)
	}
	tag := reflect.StructTag(literal)
	key, options, _ := strings.Cut(tag.Get("env"), ",")
	if key == "" {
		return "", nil
	}
	prose := sentence(f.Names[0].Name, f.Doc.Text())
	if prose == "" {
		return "", fmt.Errorf("%s has no doc comment", key)
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", key, defaultOf(tag, options), prose), nil
}

func defaultOf(tag reflect.StructTag, options string) string {
	switch value := tag.Get("envDefault"); {
	case value != "":
		return "`" + value + "`"
	case strings.Contains(options, "required"), strings.Contains(options, "notEmpty"):
		return "required"
	default:
		return "none"
	}
}

// sentence turns "MaxBody is the largest body." into "The largest body.": the
// row names the variable, and an operator never sees the field.
func sentence(field, doc string) string {
	text := strings.Join(strings.Fields(doc), " ")
	text = strings.TrimPrefix(text, field+" ")
	text = strings.TrimPrefix(text, "is ")
	if text == "" {
		return ""
	}
	text = strings.NewReplacer("|", `\|`, "<", "&lt;", "__", `\_\_`).Replace(text)
	return strings.ToUpper(text[:1]) + text[1:]
}
