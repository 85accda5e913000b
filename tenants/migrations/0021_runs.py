from django.db import migrations


class Migration(migrations.Migration):
    # Only names in the admin change, for which the database does nothing.
    dependencies = [("tenants", "0020_installation_row")]

    operations = [
        migrations.AlterModelOptions(name="syncrun", options={"ordering": ["-id"], "verbose_name": "run"}),
    ]
