"""Frequent given names and surnames, English and German, for names that stand without a title or a label.

Words that also occur in ordinary medical sentences (May, Will, Rose, Mark, Grant) are left out on purpose: a name needs
a given name of this list and a capitalised word after it, so a missing entry costs one kind of name, while an ordinary
word in it would flag clean reports by the thousand.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GIVEN_NAMES: Final = _words(
    """
    aaron abigail adam adrian ahmed aisha alan albert alejandro alex alexander alexandra alice alicia alison amanda
    amber amelia amy ana andrea andreas andrew angela angelika anita anja ann anna anne anneliese annette anthony anton
    antonio arthur ashley astrid axel barbara beate ben benjamin bernd bernhard beth bettina betty beverly birgit bjorn
    bradley brandon brenda brian brigitte bruce bryan carl carla carlos carmen carol caroline carolyn catherine cecilia
    charles charlotte cheryl chloe christa christel christian christina christine christoph christopher cindy claire
    clara claudia clemens colin connor corinna craig cynthia dagmar daniel daniela danielle david deborah debra dennis
    derek detlef diana diane dieter dirk dolores dominik donald donna doris dorothea dorothy douglas duncan dylan
    eberhard eckhard edgar edith edward eileen elaine eleanor elena elfriede elisabeth elizabeth elke ellen emily emma
    erich erika erin erna ernst esther ethan eugene eva evelyn fabian fatima felix ferdinand fernando florian frances
    francisco frank franz franziska frederick frieda friedrich fritz gabriel gabriele gary geoffrey georg george gerald
    gerd gerda gerhard gerlinde gertrud gisela gloria gordon gottfried gregor gregory gudrun guenter guenther günter
    günther gunther hanna hannah hannelore hans harald harold hartmut heather hedwig heidi heike heiko heinrich heinz
    helen helena helga helmut henning henry herbert hermann hilde hildegard holger horst howard hubert hugo ian ilona
    ilse inge ingeborg ingo ingrid irene iris irma irmgard isabel isabella ivan jack jacob jacqueline jakob james jamie
    jan jana janet janice jasmin jason javier jean jeffrey jennifer jens jeremy jerome jessica jill jim joachim joan
    joanna joanne jochen johann johanna johannes john jonas jonathan jorge jose josef joseph joshua juan judith judy
    juergen julia julian julie jürgen justin jutta kai karen karin karl karsten katharina katherine kathleen kathryn
    katja katrin keith kelly kenneth kerstin kevin kimberly klaus konrad kristen kristin kurt kyle larry lars laura
    lauren laurence lea leah lena leon leonard leonie lieselotte lillian linda lisa liselotte logan lorenz louis louise
    lucas lucia luis luisa lukas lydia madison maik maike manfred manuel manuela marcel marcus margaret margarete
    margarethe maria marianne marie marilyn marina mario marion markus marlene marlies martha martin martina marvin
    mary mathias matthew matthias maureen maurice max maximilian megan melanie melissa michael michaela michelle miguel
    mike mohamed mohammad mohammed monica monika moritz muhammad nadine nancy natalie nathan nicholas nicole niklas nina
    norbert nora norman oliver olivia oskar otto pamela patricia patrick paul paula pauline pedro peter petra philip
    philipp phillip phyllis pia rachel rafael rainer ralf ralph ramona raymond rebecca regina reinhard renate rene
    ricardo richard rita robert roberto robin roger roland rolf ronald ronny rosemarie rosemary roswitha roy rudolf
    russell ruth ryan sabine samantha samuel sandra sara sarah scott sean sebastian sharon sheila shirley siegfried
    sigrid silke silvia simon simone sofia sonja sophia sophie stefan stefanie stephan stephanie stephen steven stuart
    susan susanne suzanne sven sylvia tamara tanja teresa thea theodor theresa thomas thorsten tiffany tim timothy
    tobias torsten traute tyler udo ulrich ulrike ursula uta ute uwe valentina vanessa vera verena veronica veronika
    victor victoria viktor viktoria vincent virginia volker waldemar walter waltraud wanda wayne wendy werner wilhelm
    willi william wolfgang yasmin yvonne zachary zoe
    """
)

SURNAMES: Final = _words(
    """
    adams albrecht alexander allen alvarez anderson arnold bailey baker barnes bauer baumann beck becker bennett berger
    bergmann bianchi böhm brandt braun brooks brown bryant busch butler campbell carter castillo castro chang chavez
    chen clark coleman collins cook cooper cox cruz davis delgado diaz dietrich doe edwards engel evans fernandez
    fischer fisher flores ford foster fowler frank franke friedrich fuchs garcia gibson gomez gonzalez gordon graf
    graham gray green griffin gross groß günther gutierrez haas hahn hall hamilton harris hartmann hayes heinrich
    henderson hernandez herrmann hoffman hoffmann hofmann horn howard huang huber hughes hussain hwang jackson jäger
    jenkins jimenez johnson jones jordan jung kaiser kaplan kaufmann keller kelly khan kim king klein knight koch
    koehler köhler könig kowalski krämer kraus krause krüger kühn kuhn kumar lang lange lee lehmann lewis li lin lindner
    long lopez lorenz ludwig maier marshall martin martinez mason mayer mcdonald meier meyer miller mitchell möller
    moore morales moreno morgan morris müller mueller murphy murray myers nelson neumann nguyen novak olson ortiz otto
    owens park parker patel pereira perez perry peters petersen peterson pfeiffer phillips pohl powell price ramirez
    ramos reed reyes reynolds richardson richter rivera roberts robinson rodriguez rogers romero ross roth rossi ruiz
    russell ryan sanchez sanders santos sauer schäfer schmid schmidt schmitt schmitz schneider scholz schröder schubert
    schulte schultz schulz schulze schumacher schuster schwarz seidel shah shaw sharma silva simmons simon simpson singh
    smith sommer stein stevens stewart sullivan suzuki taylor thomas thompson torres tran turner vargas vasquez vogel
    vogt voigt wagner walker wallace walter wang ward watson weber weiß weiss werner white williams wilson winkler
    winter wolf wolff wong wood wright wu yang yılmaz yilmaz young zhang ziegler zimmermann
    """
)

#: Capitalised words that follow a title, a label or a given name without being one.
NOT_NAMES: Final = _words(
    """
    dr drs prof mr mrs ms miss doctor herr herrn frau
    addendum conclusion date final history reason signed status summary time type wet
    absent abdomen acute ap attending biopsy bilateral bronchoscopy cardiology catheter chest clinical clinician
    colleague comparison ct echo echocardiography emergency erect examination exam female findings follow frontal
    hospital icu impression indication intubated left lateral male medicine mri none normal not note nurse
    oncology pa patient physician portable position practitioner preliminary primary procedure prone radiograph
    radiologist radiology report resident right rotated service sitting supine surgery surgical team technique the this
    thorax ultrasound unable unavailable unconfirmed unknown upright view yes
    arzt aufnahme befund doktor intensivstation kein keine kollege kollegen kollegin liegend links oberarzt
    patientin professor rechts röntgen sitzend stationsarzt stehend unbekannt ärztin
    """
)
