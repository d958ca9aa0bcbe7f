//! Writing the XML of answers and reading the XML of requests.

use crate::fault::{Code, Fault};

/// The namespace of S3's documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Elements that are read of a request at most: S3 allows 10,000 parts with five children each.
const NODES_MAX: u32 = 200_000;

/// An XML document that is being written.
#[derive(Debug)]
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    /// Begins a document of S3's namespace; `fill` writes what is in its root.
    pub(crate) fn document(root: &str, fill: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() };
        xml.text.extend(["<", root, " xmlns=\"", NAMESPACE, "\">"]);
        fill(&mut xml);
        xml.close(root);
        xml.text
    }

    /// Begins a document without a namespace, as errors have it.
    pub(crate) fn plain_document(root: &str, fill: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() };
        xml.element(root, fill);
        xml.text
    }

    /// Writes an element; `fill` writes what is in it.
    pub(crate) fn element(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.text.extend(["<", name, ">"]);
        fill(self);
        self.close(name);
    }

    /// Writes an element with text in it.
    pub(crate) fn text(&mut self, name: &str, content: &str) {
        self.text.extend(["<", name, ">"]);
        self.escape(content);
        self.close(name);
    }

    fn close(&mut self, name: &str) {
        self.text.extend(["</", name, ">"]);
    }

    fn escape(&mut self, content: &str) {
        for character in content.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                // XML 1.0 has no way to write most of these; S3 writes them so, and clients that
                // must be sure ask for `encoding-type=url`.
                control if control.is_ascii_control() => {
                    self.text.extend(["&#", &u32::from(control).to_string(), ";"]);
                }
                other => self.text.push(other),
            }
        }
    }
}

/// Reads a document and hands its root to `read`.
///
/// # Errors
/// It is no XML, or the root has another name.
pub(crate) fn read_document<T>(
    text: &[u8],
    root: &str,
    read: impl FnOnce(roxmltree::Node<'_, '_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let malformed = |why: String| Fault::new(Code::MalformedXml, why);
    let text = std::str::from_utf8(text).map_err(|error| malformed(error.to_string()))?;
    let options = roxmltree::ParsingOptions { nodes_limit: NODES_MAX, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options)
        .map_err(|error| malformed(error.to_string()))?;
    let node = document.root_element();
    if node.tag_name().name() != root {
        return Err(malformed(format!("the document is not a `{root}`")));
    }
    read(node)
}

/// Returns the text of the first child with this name.
pub(crate) fn child_text<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Option<&'a str> {
    let child = node.children().find(|child| child.has_local_name(name))?;
    Some(child.text().unwrap_or_default())
}

/// Tells elements by their local name: clients send documents with and without the namespace.
pub(crate) trait LocalName {
    /// Whether it is an element with this local name.
    fn has_local_name(&self, name: &str) -> bool;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_local_name(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::{Xml, child_text, read_document};

    #[test]
    fn text_comes_back_as_it_was_written() {
        let written = "a<b>&\"c' ü\t\n";
        let text = Xml::document("Root", |xml| xml.text("Key", written));
        let read = read_document(text.as_bytes(), "Root", |root| {
            Ok(child_text(root, "Key").map(str::to_owned))
        });
        assert_eq!(read.unwrap().as_deref(), Some(written));
    }

    #[test]
    fn a_document_that_grows_when_it_is_read_is_refused() {
        let mut text = "<!DOCTYPE r [<!ENTITY a0 \"aaaaaaaaaa\">".to_owned();
        for level in 1..12 {
            let previous = level - 1;
            let inside = format!("&a{previous};").repeat(10);
            text.extend(["<!ENTITY a", &level.to_string(), " \"", &inside, "\">"]);
        }
        text.push_str("]><r>&a11;</r>");
        assert!(read_document(text.as_bytes(), "r", |_root| Ok(())).is_err());
    }
}
