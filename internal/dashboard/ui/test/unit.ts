import "./data.test";
import "./links.test";
import "./names.test";
import "./outbox.test";
import "./session.test";
import "./time.test";
import "./views.test";
